// All devices as their messages tell of them. Pure: messages and times in, records out; memory is bounded.
import * as messages from "./messages.js";
import { name } from "./text.js";

export const LIMITS = { devices: 5000, points: 120, transcripts: 20 };
/** Gauges come every minute; after three of them were missed they are told as old. */
export const STALE_MS = 180_000;

const READERS = {
  status: messages.status,
  info: messages.info,
  health: messages.health,
  "transcript/final": (body) => messages.transcript(body, "final"),
  "transcript/partial": (body) => messages.transcript(body, "partial"),
  gap: messages.gap,
};

function fresh(id) {
  return {
    id,
    label: name(id),
    rank: 0, // of its name among all, see columns.js
    state: "unknown",
    since: null,
    reasons: [],
    info: null,
    health: null,
    healthAt: null,
    lastWords: null,
    site: "",
    partial: null,
    transcripts: [], // newest last; finals and gaps
    latencies: [], // [time, ms] of finals
    gauges: [], // [time, p95, rtf, temperature] of health
  };
}

export class Fleet {
  constructor(limits = LIMITS) {
    this.limits = limits;
    this.devices = new Map();
    this.changes = 0; // counts devices that came and went
    this.turnedAway = 0; // devices beyond the limit
    this.unreadable = 0; // messages that are not ours
  }

  /** Take one message; the record that changed, or null. An empty status (cleared at the broker) removes a device. */
  apply(id, suffix, payload, now) {
    if (suffix === "status" && payload.length === 0) return this.#remove(id);
    const read = READERS[suffix];
    if (!read || payload.length === 0) return null;
    const message = read(messages.decode(payload));
    if (message === null) {
      this.unreadable += 1;
      return null;
    }
    const device = this.#device(id);
    if (device) this.#take(device, suffix, message, now);
    return device;
  }

  /** Whether its gauges are not of now: too old, or of a device that is gone. */
  static stale(device, now) {
    const gone = device.state === "offline" || device.state === "stopped";
    return device.healthAt !== null && (gone || now - device.healthAt > STALE_MS);
  }

  #remove(id) {
    const device = this.devices.get(id) ?? null;
    if (this.devices.delete(id)) this.changes += 1;
    return device;
  }

  #device(id) {
    const known = this.devices.get(id);
    if (known) return known;
    if (this.devices.size >= this.limits.devices) {
      this.turnedAway += 1;
      return null;
    }
    const device = fresh(id);
    this.devices.set(id, device);
    this.changes += 1;
    return device;
  }

  #take(device, suffix, message, now) {
    if (suffix === "status") Object.assign(device, message);
    else if (suffix === "info") device.info = message;
    else if (suffix === "health") this.#gauges(device, message, now);
    else if (suffix === "transcript/partial") device.partial = known(device, message.id) ? null : message;
    else this.#ending(device, message, suffix === "gap", now);
  }

  #gauges(device, health, now) {
    device.health = health;
    device.healthAt = now;
    push(device.gauges, [now, health.p95, health.rtf, health.temperature], this.limits.points);
  }

  #ending(device, message, isGap, now) {
    if (device.partial?.id === message.id) device.partial = null;
    if (known(device, message.id)) return; // QoS 1 may bring it twice
    push(device.transcripts, { ...message, isGap, at: now }, this.limits.transcripts);
    if (isGap) return;
    const ended = message.synced && message.start !== null ? Math.min(message.start + message.duration, now) : now;
    device.lastWords = Math.max(device.lastWords ?? 0, ended);
    device.site = message.site || device.site;
    if (message.latency !== null) push(device.latencies, [now, message.latency], this.limits.points);
  }
}

const known = (device, id) => device.transcripts.some((one) => one.id === id);

function push(list, item, limit) {
  list.push(item);
  if (list.length > limit) list.shift();
}
