"use strict";
(() => {
  const root = document.documentElement;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const box = document.getElementById("cards");
  const cards = [...box.querySelectorAll(":scope > .card")];
  const at = (id) => document.getElementById(id);
  const find = at("find"), kind = at("kind"), least = at("least"), sort = at("sort"), truth = at("truth");
  const words = new Map(cards.map((card) => [card, card.dataset.text.toLowerCase()]));
  const data = at("all-data") ? JSON.parse(at("all-data").textContent) : { kinds: [], rows: [] };
  const PAGE = 200;
  let wanted = PAGE;
  for (const value of data.kinds.filter(Boolean)) {
    kind.add(new Option(value, value));
  }
  if (kind.options.length === 1) kind.closest("label").hidden = true;
  if (!box.querySelector(".truth")) truth.closest("label").hidden = true;

  const figure = (card, name, otherwise) =>
    card.dataset[name] === "" ? otherwise : Number(card.dataset[name]);

  function show() {
    const terms = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const from = Number(least.value);
    at("least-shown").textContent = from.toFixed(2);
    let shown = 0;
    for (const card of cards) {
      const fits =
        terms.every((term) => words.get(card).includes(term)) &&
        (!kind.value || card.dataset.kind === kind.value) &&
        figure(card, "quality", 1) >= from;
      card.hidden = !fits;
      shown += fits;
    }
    at("count").textContent = `${shown} of ${cards.length} samples with frames; the run has ${box.dataset.total}`;
    list(terms, from);
  }

  function list(terms, from) {
    const body = at("all-rows");
    if (!body) return;
    const fitting = data.rows.filter(
      (row) =>
        row[4] >= from &&
        (!kind.value || data.kinds[row[3]] === kind.value) &&
        terms.every((term) => row[0].toLowerCase().includes(term)),
    );
    body.replaceChildren(...fitting.slice(0, wanted).map(line));
    at("all-count").textContent = `${Math.min(wanted, fitting.length)} of ${fitting.length} samples`;
    at("more").hidden = fitting.length <= wanted;
  }

  function line(row) {
    const [text, video, expression, number, quality, ...frames] = row;
    const cells = [text, `${video} · ${expression}`, data.kinds[number], quality.toFixed(2), ...frames];
    const made = document.createElement("tr");
    cells.forEach((value, place) => {
      const cell = document.createElement(place ? "td" : "th");
      if (!place) cell.scope = "row";
      cell.textContent = value;
      if (place > 2) cell.className = "num";
      if (place === 1) cell.className = "mono";
      made.append(cell);
    });
    return made;
  }

  function order() {
    const [name, way] = sort.value.split("-");
    const sign = way === "down" ? -1 : 1;
    const sorted = [...cards];
    if (name === "text" || name === "kind") {
      sorted.sort((a, b) => a.dataset[name].localeCompare(b.dataset[name]));
    } else if (name !== "order") {
      const last = sign > 0 ? Infinity : -Infinity;
      sorted.sort((a, b) => sign * (figure(a, name, last) - figure(b, name, last)) || 0);
    }
    box.append(...sorted);
  }

  at("tools").addEventListener("submit", (event) => event.preventDefault());
  at("more")?.addEventListener("click", () => {
    wanted += 5 * PAGE;
    show();
  });
  find.addEventListener("input", show);
  kind.addEventListener("change", show);
  least.addEventListener("input", show);
  sort.addEventListener("change", order);
  truth.addEventListener("change", () => root.classList.toggle("no-truth", !truth.checked));
  show();
})();
