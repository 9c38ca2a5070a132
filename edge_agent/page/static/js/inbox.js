// Between the socket and the screen: messages wait here for the next frame. Pure.
//
// Of what only the newest counts (status, info, health, partials) one per topic is kept, so a storm costs
// no more than one message per topic and frame. Finals, gaps and answers are all kept, up to a limit.

const NEWEST_COUNTS = /\/up\/(status|info|health|transcript\/partial)$/;

export class Inbox {
  constructor(limit = 20_000) {
    this.limit = limit;
    this.waiting = new Map(); // topic or number -> [topic, payload]
    this.number = 0;
    this.skipped = 0;
  }

  put(topic, payload) {
    const slot = NEWEST_COUNTS.test(topic) ? topic : (this.number += 1);
    if (this.waiting.size >= this.limit && !this.waiting.has(slot)) {
      this.skipped += 1;
      return;
    }
    this.waiting.delete(slot); // to the end: a partial must not overtake its own final
    this.waiting.set(slot, [topic, payload]);
  }

  /** Hand out messages until none waits or `enough()`; true when some are left. */
  drain(handle, enough) {
    for (const [slot, [topic, payload]] of this.waiting) {
      this.waiting.delete(slot);
      handle(topic, payload);
      if (enough()) break;
    }
    return this.waiting.size > 0;
  }
}
