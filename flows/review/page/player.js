// Plays the frames of a sample on a canvas. Frames are loaded on demand and kept while it is shown.
import * as api from "./api.js";

const PER_SECOND = 8;
const AT_ONCE = 4;

export class Player {
  constructor(view, bar, changed) {
    this.view = view;
    this.bar = bar;
    this.changed = changed;
    this.sample = null;
    this.index = 0;
    this.show = { show: "mask", track: 0 };
    this.timer = 0;
    this.stop = new AbortController();
    this.frames = new Map();
    // Draws over the frame: (context, width, height). Is told that another frame comes.
    this.cover = () => {};
    this.left = () => {};
  }

  open(sample, index = 0) {
    this.pause();
    this.sample = sample;
    this.index = Math.min(index, sample.frames.length - 1);
    this.#reload();
  }

  choose(show) {
    this.show = show;
    if (this.sample) this.#reload();
  }

  go(index) {
    if (!this.sample?.frames.length) return;
    this.left();
    const count = this.sample.frames.length;
    this.index = ((index % count) + count) % count;
    this.#draw();
    this.#load(this.index, this.stop.signal);
  }

  get playing() {
    return this.timer !== 0;
  }

  toggle() {
    if (this.playing) return this.pause();
    this.timer = setInterval(() => {
      const next = (this.index + 1) % this.sample.frames.length;
      // A frame that has not come yet is waited for.
      if (this.frames.get(next) instanceof ImageBitmap) this.go(next);
    }, 1000 / PER_SECOND);
    this.changed();
  }

  pause() {
    clearInterval(this.timer);
    this.timer = 0;
    this.changed();
  }

  #reload() {
    this.stop.abort();
    this.stop = new AbortController();
    for (const frame of this.frames.values()) frame?.close?.();
    this.frames = new Map();
    this.go(this.index);
    this.#loadAll(this.stop.signal);
  }

  async #loadAll(signal) {
    const count = this.sample.frames.length;
    const order = [...Array(count).keys()].map((step) => (this.index + step) % count);
    const worker = async () => {
      while (order.length && !signal.aborted) await this.#load(order.shift(), signal);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  }

  async #load(index, signal) {
    if (this.frames.has(index)) return;
    this.frames.set(index, null);
    const { video, expression } = this.sample.row;
    const width = Math.min(Math.ceil(this.view.clientWidth * devicePixelRatio), 1280);
    try {
      const values = { video, expression, frame: index, width: Math.max(width, 64), ...this.show };
      const image = await api.frame(values, signal);
      if (signal.aborted) return image.close();
      this.frames.set(index, image);
      if (index === this.index) this.#draw();
    } catch (error) {
      this.frames.delete(index);
      if (!signal.aborted) this.changed(error);
    }
  }

  #draw() {
    const image = this.frames.get(this.index);
    // What is on the canvas is of another frame until this one has come.
    this.view.classList.toggle("waits", !(image instanceof ImageBitmap));
    if (image instanceof ImageBitmap) {
      this.view.width = image.width;
      this.view.height = image.height;
      this.redraw();
    }
    this.#drawBar();
    this.changed();
  }

  // Draws the frame again, and what lies over it.
  redraw() {
    const image = this.frames.get(this.index);
    if (!(image instanceof ImageBitmap)) return;
    const context = this.view.getContext("2d");
    context.drawImage(image, 0, 0);
    this.cover(context, this.view.width, this.view.height);
  }

  #drawBar() {
    const { bar } = this;
    const frames = this.sample.frames;
    bar.width = Math.max(bar.clientWidth, 1);
    const context = bar.getContext("2d");
    const step = bar.width / frames.length;
    frames.forEach((frame, index) => {
      const colours = ["#9aa1a8", "#3f87d9", "#6b7278"];
      context.fillStyle = colours[frame.status];
      const height = frame.status === 1 ? 3 + 15 * frame.weight : 5;
      context.fillRect(index * step, 18 - height, Math.max(step - 1, 1), height);
    });
    context.fillStyle = "#e0913f";
    context.fillRect(this.index * step, 0, Math.max(step - 1, 2), 3);
  }
}
