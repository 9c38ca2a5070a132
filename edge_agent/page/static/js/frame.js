// Work that belongs to the screen: once per frame, a slice at a time.

const SLICE_MS = 6;
const HIDDEN_MS = 500; // a page that nobody looks at gets no frames

/** `work(enough)` is called in the next frame; when it answers true, again in the one after. */
export class Frames {
  #asked = false;

  constructor(work) {
    this.work = work;
  }

  ask() {
    if (this.#asked) return;
    this.#asked = true;
    if (document.hidden) setTimeout(() => this.#run(), HIDDEN_MS);
    else requestAnimationFrame(() => this.#run());
  }

  #run() {
    this.#asked = false;
    const end = performance.now() + SLICE_MS;
    if (this.work(() => performance.now() > end)) this.ask();
  }
}
