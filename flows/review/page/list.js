// The list of samples: filters that live in the page's address, rows, and pages of rows.
import * as api from "./api.js";

const PAGE = 50;
const NAMES = ["text", "decision", "kind", "reason", "video", "low", "high"];
const USUAL = { low: "0", high: "1" };

const at = (id) => document.getElementById(id);

// Scrolls the list alone: on a narrow screen the sample is above it, and must stay in view.
function reveal(item) {
  const box = at("rows");
  const end = item.offsetTop + item.offsetHeight - box.clientHeight;
  if (item.offsetTop < box.scrollTop) box.scrollTop = item.offsetTop;
  else if (end > box.scrollTop) box.scrollTop = end;
}

export class List {
  constructor(form, chosen, failed) {
    this.form = form;
    this.chosen = chosen;
    this.failed = failed;
    this.rows = [];
    this.total = 0;
    this.start = 0;
    this.current = null;
    this.stop = new AbortController();
    this.#readAddress();
    let timer = 0;
    form.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.load(0), 150);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    at("page-before").addEventListener("click", () => this.load(this.start - PAGE));
    at("page-after").addEventListener("click", () => this.load(this.start + PAGE));
  }

  fill(name, values) {
    for (const value of values) this.form.elements[name].add(new Option(value, value));
    const wanted = new URLSearchParams(location.search).get(name);
    if (wanted) this.form.elements[name].value = wanted;
  }

  get filters() {
    const values = {};
    for (const name of NAMES) {
      const value = this.form.elements[name].value.trim();
      if (value && value !== USUAL[name]) values[name] = value;
    }
    return values;
  }

  async load(start = this.start) {
    this.stop.abort();
    this.stop = new AbortController();
    try {
      const found = await api.samples(this.filters, Math.max(0, start), this.stop.signal);
      this.start = Math.max(0, start);
      Object.assign(this, { rows: found.rows, total: found.total });
      this.#show(found);
      this.writeAddress();
    } catch (error) {
      if (error.name !== "AbortError") this.failed(error);
    }
  }

  select(row) {
    this.current = row ? [row.video, row.expression] : null;
    this.writeAddress();
    this.#mark();
  }

  // Goes to another sample of the list. Returns whether there is one.
  async step(by) {
    const place = this.#place();
    let next = place < 0 ? 0 : place + by;
    if (next >= this.rows.length && this.start + PAGE < this.total) {
      await this.load(this.start + PAGE);
      next = 0;
    } else if (next < 0 && this.start > 0) {
      await this.load(this.start - PAGE);
      next = this.rows.length - 1;
    }
    if (!this.rows[next]) return false;
    this.chosen(this.rows[next]);
    return true;
  }

  writeAddress() {
    const values = new URLSearchParams(this.filters);
    if (this.start) values.set("start", this.start);
    if (this.current) {
      values.set("at", this.current[0]);
      values.set("of", this.current[1]);
    }
    history.replaceState(null, "", values.size ? `?${values}` : location.pathname);
  }

  #place() {
    return this.rows.findIndex(
      (row) => this.current && row.video === this.current[0] && row.expression === this.current[1],
    );
  }

  #readAddress() {
    const values = new URLSearchParams(location.search);
    for (const name of NAMES) {
      if (values.has(name)) this.form.elements[name].value = values.get(name);
    }
    this.start = Number(values.get("start")) || 0;
    if (values.has("at")) this.current = [values.get("at"), values.get("of") ?? ""];
  }

  #show({ total, all, counts }) {
    at("rows").replaceChildren(...this.rows.map((row) => this.#item(row)));
    at("total").textContent = `${total} of ${all} samples`;
    at("counts").textContent = Object.entries(counts)
      .map(([name, count]) => `${count} ${name}`)
      .join(" · ");
    const last = Math.min(this.start + PAGE, total);
    at("page-shown").textContent = total ? `${this.start + 1} to ${last}` : "none";
    at("page-before").disabled = this.start === 0;
    at("page-after").disabled = last >= total;
    this.#mark();
  }

  #item(row) {
    const text = document.createElement("strong");
    text.textContent = row.text;
    const facts = document.createElement("small");
    const kind = row.kind ? `${row.kind} · ` : "";
    facts.textContent = `${row.video} ${row.expression} · ${kind}quality ${row.quality.toFixed(2)} · `;
    const decision = document.createElement("span");
    decision.className = row.decision;
    decision.textContent = row.decision === "undecided" ? `gain ${row.gain.toFixed(1)}` : row.verdict;
    facts.append(decision);
    const button = document.createElement("button");
    button.type = "button";
    button.append(text, facts);
    button.addEventListener("click", () => this.chosen(row));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  #mark() {
    const place = this.#place();
    [...at("rows").children].forEach((item, index) => {
      const button = item.firstElementChild;
      if (index === place) {
        button.setAttribute("aria-current", "true");
        reveal(item);
      } else {
        button.removeAttribute("aria-current");
      }
    });
  }
}
