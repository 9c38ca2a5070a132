// Values as people read them. Pure; "–" stands for what is not known.
export const UNKNOWN = "–";

export function milliseconds(value) {
  if (value === null) return UNKNOWN;
  return value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

export function factor(value) {
  if (value === null) return UNKNOWN;
  return value < 10 ? value.toFixed(2) : value.toFixed(0);
}

export function celsius(value) {
  return value === null ? UNKNOWN : `${Math.round(value)} °C`;
}

/** A length of time: 0 s, 45 s, 12 min, 3 h, 2 d. */
export function span(seconds) {
  if (seconds === null) return UNKNOWN;
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172_800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86_400)} d`;
}

/** Age of the oldest undelivered message; nothing waits: 0. */
export function outbox(queued, age) {
  if (queued === null && age === null) return UNKNOWN;
  return queued === 0 ? "empty" : `${span(age)}${queued === null ? "" : ` · ${count(queued)}`}`;
}

export function count(value) {
  return value < 100_000 ? String(value) : `${Math.round(value / 1000)}k`;
}

const pad = (value) => String(value).padStart(2, "0");

/** Time of day; with the date when it is another day than `now`. Milliseconds since 1970, the reader's zone. */
export function clock(at, now) {
  if (at === null) return UNKNOWN;
  const then = new Date(at), today = new Date(now);
  const time = `${pad(then.getHours())}:${pad(then.getMinutes())}:${pad(then.getSeconds())}`;
  if (then.toDateString() === today.toDateString()) return time;
  return `${then.getFullYear()}-${pad(then.getMonth() + 1)}-${pad(then.getDate())} ${time.slice(0, 5)}`;
}

/** "whisper-base" of "whisper-base@d01c3014881c". */
export function shortModel(model) {
  return model.split("@")[0];
}
