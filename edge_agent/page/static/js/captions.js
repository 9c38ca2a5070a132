// What stands on a caption screen: finals that roll up, one open line per channel. Pure; memory is bounded.
//
// Finals supersede partials by id. A message may come twice (QoS 1) and after a newer one (backlog), and a
// device whose store was replaced counts from 1 again.

export const KEEP = 30;
const REMEMBER = 500;
/** A partial that nobody continues (its agent died): the line is taken away. */
export const OPEN_MS = 15_000;

export class Captions {
  constructor(keep = KEEP) {
    this.keep = keep;
    this.ended = []; // {key, device, id, seq, start, channel, text, language, gap, missed}
    this.open = new Map(); // device + channel -> partial with `at`
    this.channels = new Map(); // device -> channels heard
    this.done = new Set(); // ids that have ended
  }

  /** True when something to be shown has changed. */
  partial(device, message, now) {
    if (this.done.has(key(device, message.id))) return false;
    this.#heard(device, message.channel);
    const lane = key(device, message.channel);
    const before = this.open.get(lane);
    if (before?.id === message.id && message.rev <= before.rev) return false;
    this.open.delete(lane);
    this.open.set(lane, { ...message, device, at: now });
    return true;
  }

  final(device, message) {
    this.#heard(device, message.channel);
    return this.#end(device, message, null);
  }

  gap(device, message) {
    return this.#end(device, { ...message, text: "", language: "", channel: 0 }, { cause: message.cause, duration: message.duration });
  }

  /** Take away open lines that nobody continues; true when there were any. */
  expire(now) {
    const before = this.open.size;
    for (const [lane, line] of this.open) if (now - line.at > OPEN_MS) this.open.delete(lane);
    return this.open.size !== before;
  }

  /** More than one channel of this device speaks: lines need its number. */
  several(device) {
    return (this.channels.get(device)?.size ?? 0) > 1;
  }

  #heard(device, channel) {
    if (!this.channels.has(device) && this.channels.size >= REMEMBER) return;
    const set = this.channels.get(device) ?? new Set();
    if (set.size < 64) set.add(channel);
    this.channels.set(device, set);
  }

  #end(device, message, gap) {
    const line = { ...message, device, key: key(device, message.id), gap, missed: 0 };
    for (const [lane, open] of this.open) if (open.device === device && open.id === message.id) this.open.delete(lane);
    if (this.done.has(line.key)) return false;
    this.done.add(line.key);
    if (this.done.size > REMEMBER) this.done.delete(this.done.values().next().value);
    const at = this.#place(line);
    this.ended.splice(at, 0, line);
    if (this.ended.length > this.keep) this.ended.splice(0, this.ended.length - this.keep);
    this.#count(device);
    return true;
  }

  /** At the end, unless it is older than what its device said before by number and by time. */
  #place(line) {
    let at = this.ended.length;
    for (let i = this.ended.length - 1; i >= 0; i -= 1) {
      const other = this.ended[i];
      if (other.device !== line.device) continue;
      if (!older(line, other)) break;
      at = i;
    }
    return at;
  }

  /** Numbers have no holes: one means that lines have not come (yet). */
  #count(device) {
    let before = null;
    for (const line of this.ended) {
      if (line.device !== device || line.seq === null) continue;
      line.missed = before !== null && line.seq > before ? line.seq - before - 1 : 0;
      before = line.seq;
    }
  }
}

const key = (device, rest) => `${device}\n${rest}`;

function older(line, other) {
  if (line.seq === null || other.seq === null || line.seq >= other.seq) return false;
  return line.start === null || other.start === null || line.start <= other.start;
}
