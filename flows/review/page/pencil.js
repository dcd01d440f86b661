// Clicks and boxes on the frame: asks for the mask of what they show, and shows it over the frame.
import * as api from "./api.js";

const DRAG = 6;
const STEP = 0.02;

export class Pencil {
  // player: whose frame is drawn on; wants(): whether clicks are of the target; changed(error).
  constructor(player, wants, changed) {
    Object.assign(this, { player, wants, changed, stop: new AbortController(), cross: null });
    player.cover = (context, width, height) => this.#cover(context, width, height);
    const { view } = player;
    // A click does not take the focus: the arrow keys go on stepping through the frames.
    view.addEventListener("mousedown", (event) => event.preventDefault());
    view.addEventListener("pointerdown", (event) => this.#down(event));
    view.addEventListener("pointermove", (event) => this.#move(event));
    view.addEventListener("pointerup", (event) => this.#up(event));
    view.addEventListener("pointercancel", () => this.#release());
    view.addEventListener("contextmenu", (event) => event.preventDefault());
    view.addEventListener("blur", () => this.#aim(null));
    view.addEventListener("keydown", (event) => this.#key(event));
    this.clear();
  }

  // Forgets all clicks.
  clear() {
    this.stop.abort();
    Object.assign(this, { points: [], box: null, mask: null, from: null, to: null, waits: false });
    this.image?.close();
    this.image = null;
    this.player.redraw();
  }

  get active() {
    return this.points.length > 0 || this.box !== null;
  }

  back() {
    if (this.points.length) this.points.pop();
    else this.box = null;
    this.#ask();
  }

  // Where a pointer is, in shares of the frame. The frame may be narrower than the canvas.
  #place({ clientX, clientY }) {
    const { view } = this.player;
    const rect = view.getBoundingClientRect();
    const scale = Math.min(rect.width / view.width, rect.height / view.height);
    const left = rect.left + (rect.width - view.width * scale) / 2;
    const top = rect.top + (rect.height - view.height * scale) / 2;
    const share = (value, size) => Math.min(Math.max(value / (size * scale), 0), 1);
    return [share(clientX - left, view.width), share(clientY - top, view.height)];
  }

  #down(event) {
    if (!this.player.sample || event.button === 1) return;
    this.player.view.setPointerCapture(event.pointerId);
    this.player.pause();
    this.cross = null;
    this.from = this.to = this.#place(event);
    this.start = [event.clientX, event.clientY];
    this.drags = false;
  }

  #move(event) {
    if (!this.from) return;
    const [x, y] = this.start;
    this.drags ||= Math.hypot(event.clientX - x, event.clientY - y) >= DRAG;
    this.to = this.#place(event);
    this.player.redraw();
  }

  #up(event) {
    if (!this.from) return;
    const { from, to, drags } = this;
    this.#release();
    if (drags) {
      this.box = [Math.min(from[0], to[0]), Math.min(from[1], to[1]),
        Math.max(from[0], to[0]), Math.max(from[1], to[1])];
      this.#ask();
    } else {
      this.#add(from, event.shiftKey || event.button === 2);
    }
  }

  #release() {
    this.from = this.to = null;
    this.player.redraw();
  }

  #add(place, outside) {
    this.points.push([...place, this.wants() && !outside]);
    this.#ask();
  }

  // Without a pointer: arrows move a cross, i and o set points.
  #key(event) {
    const { key, ctrlKey, metaKey, altKey } = event;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (ctrlKey || metaKey || altKey || !this.player.sample) return;
    if (steps[key]) {
      const length = event.shiftKey ? 5 * STEP : STEP;
      this.#aim((this.cross ?? [0.5, 0.5]).map(
        (value, axis) => Math.min(Math.max(value + length * steps[key][axis], 0), 1)));
    } else if (key === "i" || key === "o") {
      this.player.pause();
      this.#add(this.cross ?? [0.5, 0.5], key === "o");
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #aim(place) {
    this.cross = place;
    this.player.redraw();
  }

  async #ask() {
    if (!this.active) return this.clear();
    this.stop.abort();
    this.stop = new AbortController();
    const { signal } = this.stop;
    const { sample, index, view } = this.player;
    const { video, expression } = sample.row;
    // What was found for fewer clicks is no answer to these.
    this.mask = null;
    this.waits = true;
    this.player.redraw();
    this.changed(null);
    try {
      const width = Math.min(Math.max(view.width, 64), 1280);
      const { points, box } = this;
      const shown = { video, expression, frame: index, points, box, width };
      const { mask, image } = await api.prompt(shown, signal);
      if (signal.aborted) return image.close();
      this.image?.close();
      Object.assign(this, { mask, image, waits: false });
      this.player.redraw();
      this.changed(null);
    } catch (error) {
      if (signal.aborted) return;
      this.waits = false;
      this.changed(error);
    }
  }

  #cover(context, width, height) {
    if (this.image) context.drawImage(this.image, 0, 0, width, height);
    const unit = Math.max(width, height) / 160;
    context.lineWidth = Math.max(unit / 2, 1);
    for (const [x, y, inside] of this.points) {
      context.beginPath();
      context.arc(x * width, y * height, unit, 0, 2 * Math.PI);
      context.fillStyle = inside ? "#37c26b" : "#e0483f";
      context.strokeStyle = "#ffffff";
      context.fill();
      context.stroke();
    }
    const box = this.from && this.drags ? [...this.from, ...this.to] : this.box;
    if (box) {
      context.strokeStyle = "#ffd23f";
      const [x0, y0, x1, y1] = box;
      context.strokeRect(x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height);
    }
    if (this.cross) {
      const [x, y] = [this.cross[0] * width, this.cross[1] * height];
      for (const [colour, thick] of [["#000000", 3], ["#ffffff", 1]]) {
        context.lineWidth = thick * Math.max(unit / 3, 1);
        context.strokeStyle = colour;
        context.beginPath();
        context.moveTo(x - 3 * unit, y);
        context.lineTo(x + 3 * unit, y);
        context.moveTo(x, y - 3 * unit);
        context.lineTo(x, y + 3 * unit);
        context.stroke();
      }
    }
  }
}
