// Puts the page together: a sample, its player, the keys, and the decisions.
import * as api from "./api.js";
import { List } from "./list.js";
import { Pencil } from "./pencil.js";
import { Player } from "./player.js";
import { fillWords } from "./words.js";

const at = (id) => document.getElementById(id);
const STATUS = ["unknown", "present", "absent"];
const NTH = ["first", "second", "third"];

let sample = null;
let opening = new AbortController();
const decided = [];

const player = new Player(at("view"), at("bar"), shown);
const list = new List(at("filters"), open, fail);
const pencil = new Pencil(player, () => !at("outside").checked, pointed);
player.left = () => {
  if (pencil.active) pencil.clear();
  tellPencil();
};

function fail(error) {
  at("message").textContent = error?.message ?? "";
  at("message").hidden = !error;
}

function shown(error) {
  if (error) fail(error);
  at("play").setAttribute("aria-pressed", String(player.playing));
  if (!sample) return;
  const frame = sample.frames[player.index];
  at("frame").value = player.index;
  at("frame-name").textContent = `${player.index} of ${sample.frames.length - 1}`;
  const words = `${STATUS[frame.status]}${frame.reason ? `: ${frame.reason}` : ""}`;
  at("state").textContent = `Frame ${frame.name}: ${words}, weight ${frame.weight.toFixed(2)}`;
  at("view").setAttribute("aria-label", `Frame ${frame.name}, target ${words}`);
}

function pointed(error) {
  fail(error);
  tellPencil();
}

function tellPencil() {
  const found = pencil.mask !== null;
  const words = pencil.waits ? "The segmenter is asked" : "";
  at("drawn").textContent = found ? "A new mask: enter takes it, escape drops it" : words;
  for (const name of ["back", "drop"]) {
    document.querySelector(`[data-do="${name}"]`).disabled = !pencil.active;
  }
}

async function open(row) {
  opening.abort();
  opening = new AbortController();
  list.select(row);
  try {
    show(await api.sample(row.video, row.expression, opening.signal));
    fail(null);
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  }
}

function show(found) {
  const { row, frames } = found;
  // Who decides about a sample stays at the frame, even one gone to in the meantime.
  const index = isOpen(row) ? player.index : 0;
  sample = found;
  at("text").textContent = row.text;
  at("facts").textContent =
    `${row.video} ${row.expression}${row.kind ? ` · ${row.kind}` : ""} · quality ` +
    `${row.quality.toFixed(2)} · ${row.present} of ${row.frames} frames with a mask, ` +
    `${row.absent} absent`;
  tellVerdict(found.verdict);
  at("frame").max = frames.length - 1;
  at("range-first").max = at("range-last").max = frames.length - 1;
  fillShows(found);
  fillWords(found);
  player.show = { show: "mask", track: 0 };
  player.open(found, index);
  if (at("why").open) explain();
}

function isOpen({ video, expression }) {
  return sample?.row.video === video && sample.row.expression === expression;
}

function tellVerdict(words) {
  at("verdict").textContent = words === "undecided" ? "" : `Decided: ${words}`;
}

function fillShows(found) {
  const choices = [["mask", 0, "mask"], ["plain", 0, "frame alone"]];
  if (found.truth) choices.push(["truth", 0, "ground truth"]);
  found.tracks.forEach((track, place) => {
    choices.push(["track", track, NTH[place] ?? `${place + 1}th`]);
  });
  const legend = at("shows").querySelector("legend");
  at("shows").replaceChildren(
    legend,
    ...choices.map(([name, track, words], place) => {
      const input = document.createElement("input");
      Object.assign(input, { type: "radio", name: "show", checked: place === 0 });
      input.addEventListener("change", () => player.choose({ show: name, track }));
      const label = document.createElement("label");
      label.append(input, words);
      return label;
    }),
  );
  for (const [name, place] of [["second", 1], ["third", 2]]) {
    document.querySelector(`[data-do="${name}"]`).disabled = found.tracks.length <= place;
  }
}

function framesOf(action) {
  const first = at("range-first").value, last = at("range-last").value;
  if (first !== "" || last !== "") {
    return { from: Number(first || 0), to: last === "" ? null : Number(last) };
  }
  if (at("from-here").checked) return { from: player.index, to: null };
  if (action === "absent") return { from: player.index, to: player.index };
  return { from: 0, to: null };
}

async function decide(action, more = {}) {
  if (!sample) return;
  const { video, expression } = sample.row;
  try {
    const { row } = await api.decide({ video, expression, action, ...more });
    fail(null);
    if (action !== "undo") decided.push({ video, expression });
    at("range-first").value = at("range-last").value = "";
    // The masks come later, if they have to be made anew.
    tellVerdict(row.verdict);
    const goesOn = action === "accept" || action === "reject";
    if (!goesOn || !(await list.step(1))) await open(row);
    await list.load();
  } catch (error) {
    fail(error);
  }
}

async function undo() {
  const last = decided.pop();
  if (last && !isOpen(last)) await open(last);
  await decide("undo");
}

async function explain() {
  if (!sample) return;
  const { video, expression } = sample.row;
  try {
    at("why-text").textContent = (await api.explain(video, expression, player.index)).lines.join("\n");
  } catch (error) {
    at("why-text").textContent = error.message;
  }
}

const choose = (place) => {
  const track = sample?.tracks[place];
  if (track !== undefined) decide("choose", { track, ...framesOf("choose") });
};

function takeDrawn() {
  if (!pencil.mask) return;
  const drawn = pencil.mask;
  const first = at("range-first").value, last = at("range-last").value;
  const range = { from: Number(first || 0), to: last === "" ? null : Number(last) };
  if (at("from-here").checked && first === "") range.from = drawn.frame;
  actions.drop();
  at("drawn").textContent = "The mask is carried through the video";
  decide("draw", { drawn, ...range }).finally(tellPencil);
}

const shows = () => [...at("shows").querySelectorAll("input")];

function showNext() {
  const inputs = shows();
  inputs[(inputs.findIndex((input) => input.checked) + 1) % inputs.length]?.click();
}

function showTruth() {
  const inputs = shows();
  const truth = inputs.find((input) => input.parentElement.textContent === "ground truth");
  if (truth) (truth.checked ? inputs[0] : truth).click();
}

const actions = {
  accept: () => decide("accept"),
  reject: () => decide("reject"),
  absent: () => decide("absent", framesOf("absent")),
  first: () => choose(0),
  second: () => choose(1),
  third: () => choose(2),
  back: () => {
    pencil.back();
    tellPencil();
  },
  drop: () => {
    pencil.clear();
    tellPencil();
  },
  shown: () => {
    if (pencil.active) takeDrawn();
    else if (player.show.show === "track") {
      decide("choose", { track: player.show.track, ...framesOf("choose") });
    }
  },
  undo,
  next: () => list.step(1),
  previous: () => list.step(-1),
};

const keys = {
  a: actions.accept,
  r: actions.reject,
  x: actions.absent,
  1: actions.first,
  2: actions.second,
  3: actions.third,
  Enter: actions.shown,
  u: () => (pencil.active ? actions.back() : actions.undo()),
  Escape: actions.drop,
  c: () => at("view").focus(),
  v: () => at("outside").click(),
  n: actions.next,
  j: actions.next,
  p: actions.previous,
  k: actions.previous,
  s: showNext,
  t: showTruth,
  " ": () => player.toggle(),
  ArrowLeft: () => player.go(player.index - 1),
  ArrowRight: () => player.go(player.index + 1),
  f: () => at("from-here").click(),
  "[": () => { at("range-first").value = player.index; },
  "]": () => { at("range-last").value = player.index; },
  w: () => { at("why").open = !at("why").open; },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { target } = event;
  const typed = target.matches("input:not([type=radio]):not([type=checkbox]):not([type=range]), select");
  const pressed = target.matches("button, summary, a") && (event.key === "Enter" || event.key === " ");
  const slid = target.matches("input[type=range], input[type=radio]") && event.key.startsWith("Arrow");
  const action = keys[event.key];
  if (!action || typed || pressed || slid) return;
  event.preventDefault();
  action();
});

for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", actions[button.dataset.do]);
}
at("play").addEventListener("click", () => player.toggle());
at("frame").addEventListener("input", () => player.go(Number(at("frame").value)));
at("frame").addEventListener("change", () => at("why").open && explain());
at("why").addEventListener("toggle", () => at("why").open && explain());
at("bar").addEventListener("click", (event) => {
  if (sample) player.go(Math.floor((event.offsetX / at("bar").clientWidth) * sample.frames.length));
});
at("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
// Another tab may have decided in the meantime.
addEventListener("focus", () => list.load());

try {
  const run = await api.run();
  document.title = `${run.name} · review`;
  at("run").textContent = `${run.name}, reviewed by ${run.who}`;
  list.fill("kind", run.kinds);
  list.fill("reason", run.reasons);
  list.fill("decision", run.decisions);
  if (run.problems.length) fail(new Error(run.problems.join("; ")));
  await list.load();
  if (list.current) await open({ video: list.current[0], expression: list.current[1] });
  else if (list.rows.length) await open(list.rows[0]);
} catch (error) {
  fail(error);
}
