// Commands to devices and what became of them. Pure: time and randomness are given.

export const LIFE_MS = 30_000;
/** After it was accepted: a self-test waits for a pause of the speakers. */
export const PATIENCE_MS = 120_000;
const KEEP = 200;
const LAST = new Set(["done", "refused", "expired", "failed", "no answer"]);

/** A random UUID (version 4) of 16 random bytes; crypto.randomUUID is missing on pages without TLS. */
export function uuid(bytes) {
  const b = Uint8Array.from(bytes);
  b[6] = (b[6] & 0x0f) | 0x40;
  b[8] = (b[8] & 0x3f) | 0x80;
  const hex = Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** The body of down/command. */
export function body(id, type, args, now) {
  return {
    schema: "command/1",
    command_id: id,
    type,
    args,
    issued_at: new Date(now).toISOString(),
    expires_at: new Date(now + LIFE_MS).toISOString(),
  };
}

export class Commands {
  constructor() {
    this.asked = new Map(); // id -> {id, device, type, at, state, detail, changed}
  }

  sent(id, device, type, now) {
    const ask = { id, device, type, at: now, state: "sent", detail: "", changed: now };
    this.asked.set(id, ask);
    if (this.asked.size > KEEP) this.asked.delete(this.asked.keys().next().value);
    return ask;
  }

  /** The broker took it, or did not. */
  delivered(id, problem, now) {
    return this.#change(id, problem ? "failed" : "sent", problem, now);
  }

  /** An answer counts only from the device that was asked, and never after the last one. */
  answered(device, answer, now) {
    const ask = this.asked.get(answer.id);
    if (!ask || ask.device !== device) return null;
    return this.#change(answer.id, answer.state, answer.reason || answer.result, now);
  }

  /** Those whose time is over without a last answer; they are changed to say so. */
  overdue(now) {
    const late = [];
    for (const ask of this.asked.values()) {
      if (LAST.has(ask.state)) continue;
      const patience = ask.state === "sent" ? LIFE_MS + 2_000 : PATIENCE_MS;
      if (now - ask.at <= patience) continue;
      const detail = ask.state === "sent" ? "the device said nothing in time" : `it said "${ask.state}" and no more`;
      late.push(this.#change(ask.id, "no answer", detail, now));
    }
    return late;
  }

  /** Newest first. */
  of(device) {
    return [...this.asked.values()].filter((ask) => ask.device === device).reverse();
  }

  static ended(ask) {
    return LAST.has(ask.state);
  }

  #change(id, state, detail, now) {
    const ask = this.asked.get(id);
    // "no answer" was our guess; the device's word is better.
    if (!ask || (LAST.has(ask.state) && ask.state !== "no answer")) return null;
    return Object.assign(ask, { state, detail: detail ?? "", changed: now });
  }
}
