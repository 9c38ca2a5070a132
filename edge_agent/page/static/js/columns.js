// The table's columns: what is shown, what is compared; sorting and filtering. Pure.
import * as format from "./format.js";

/** Worst first: what needs a person stands on top. */
export const STATES = ["offline", "degraded", "muted", "updating", "stopped", "unknown", "online"];

export const COLUMNS = [
  { key: "device", label: "Device", value: (d) => d.rank, text: (d) => d.label },
  { key: "state", label: "State", value: (d) => STATES.indexOf(d.state), text: (d) => d.state },
  { key: "profile", label: "Profile", value: (d) => d.info?.profile || null, text: (d) => d.info?.profile || format.UNKNOWN },
  {
    key: "model", label: "Model", value: (d) => d.info?.model || null,
    text: (d) => (d.info?.model ? format.shortModel(d.info.model) : format.UNKNOWN),
  },
  {
    key: "p50", label: "Latency p50", number: true, value: (d) => d.health?.p50 ?? null,
    text: (d) => format.milliseconds(d.health?.p50 ?? null),
  },
  {
    key: "p95", label: "Latency p95", number: true, value: (d) => d.health?.p95 ?? null,
    text: (d) => format.milliseconds(d.health?.p95 ?? null),
  },
  {
    key: "rtf", label: "RTF", title: "Real-time factor: computing time for a second of speech", number: true,
    value: (d) => d.health?.rtf ?? null, text: (d) => format.factor(d.health?.rtf ?? null),
  },
  {
    key: "temperature", label: "Temp.", title: "Temperature of the hottest zone", number: true,
    value: (d) => d.health?.temperature ?? null, text: (d) => format.celsius(d.health?.temperature ?? null),
  },
  {
    key: "outbox", label: "Outbox", title: "Age of the oldest undelivered message, and how many wait", number: true,
    value: (d) => (d.health?.queued === 0 ? 0 : (d.health?.outboxAge ?? null)),
    text: (d) => format.outbox(d.health?.queued ?? null, d.health?.outboxAge ?? null),
  },
  {
    key: "words", label: "Last words", number: true, value: (d) => d.lastWords,
    text: (d, now) => format.clock(d.lastWords, now),
  },
];

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

/** Number the devices by their names, so that sorting need not compare them each time. */
export function ranked(devices) {
  const byName = [...devices].sort((x, y) => collator.compare(x.label, y.label) || (x.id < y.id ? -1 : 1));
  byName.forEach((device, rank) => {
    device.rank = rank;
  });
}

/** Devices in order; what is not known comes last either way, equals by name (see `ranked`). */
export function sorted(devices, key, descending) {
  const { value } = COLUMNS.find((column) => column.key === key) ?? COLUMNS[0];
  const keyed = Array.from(devices, (device) => [value(device), device]);
  keyed.sort(([a, x], [b, y]) => {
    if (a === null || b === null) return (a === null) - (b === null) || x.rank - y.rank;
    const order = a === b ? 0 : typeof a === "string" ? collator.compare(a, b) : a - b;
    return (descending ? -order : order) || x.rank - y.rank;
  });
  return keyed.map(([, device]) => device);
}

const OVERSCAN = 8;

/** [first, end) of the rows in sight and a few around them. */
export function windowOf(top, height, rowPx, count) {
  const from = Math.max(0, Math.min(Math.floor(top / rowPx), count) - OVERSCAN);
  return [from, Math.min(count, Math.ceil((top + height) / rowPx) + OVERSCAN)];
}

/** Whether every word of the filter is found in what the row says; `state` narrows to one. */
export function matches(device, words, state) {
  if (state && device.state !== state) return false;
  if (!words.length) return true;
  const said = [device.label, device.state, device.site, device.info?.profile, device.info?.model, device.info?.version]
    .concat(device.reasons)
    .join("\n")
    .toLowerCase();
  return words.every((word) => said.includes(word));
}

export function filterWords(text) {
  return text.toLowerCase().split(/\s+/u).filter(Boolean).slice(0, 10);
}

/** How many devices are in each state, worst first; states without any are left out, but for the chosen one. */
export function tally(devices, chosen = "") {
  const counts = new Map(STATES.map((state) => [state, 0]));
  for (const device of devices) counts.set(device.state, counts.get(device.state) + 1);
  return [...counts].filter(([state, count]) => count > 0 || state === chosen);
}
