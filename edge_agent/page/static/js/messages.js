// Bytes from the broker -> checked plain values, or null. Pure; never throws. Whoever may publish may lie:
// a field of a wrong type counts as absent, a body that is not ours as nothing.
import { languageTag, name, spoken } from "./text.js";

export const LARGEST = 256 * 1024;
const STATES = new Set(["online", "degraded", "muted", "updating", "stopped", "offline"]);
const ANSWERS = new Set(["accepted", "running", "done", "refused", "expired"]);
const MOST_REASONS = 20;
const decoder = new TextDecoder("utf-8");

/** The JSON object in a payload; null when there is none. */
export function decode(payload) {
  if (!payload || payload.length === 0 || payload.length > LARGEST) return null;
  try {
    const body = JSON.parse(decoder.decode(payload));
    return isObject(body) ? body : null;
  } catch {
    return null;
  }
}

export function status(body) {
  if (!of(body, "status") || !STATES.has(body.state)) return null;
  return { state: body.state, since: moment(body.since), reasons: names(body.reasons) };
}

export function info(body) {
  if (!of(body, "info")) return null;
  const versions = table(body.versions);
  return {
    profile: name(body.profile),
    profileReasons: names(body.profile_reasons),
    engine: name(body.engine),
    engineNotes: names(body.engine_notes),
    model: name(body.model, 128),
    version: name(versions["edge-agent"]),
    hardware: hardware(table(body.hardware)),
  };
}

export function health(body) {
  if (!of(body, "health")) return null;
  const recognition = table(body.recognition), load = table(body.load), outbox = table(body.outbox);
  const finals = number(recognition.finals);
  const measured = finals === null || finals > 0; // before the first final these gauges are zeros that mean nothing
  return {
    p50: measured ? number(recognition.latency_p50_ms) : null,
    p95: measured ? number(recognition.latency_p95_ms) : null,
    rtf: measured ? number(recognition.real_time_factor) : null,
    finals,
    temperature: number(load.temperature_c) || null, // 0: no thermometer
    queued: number(outbox.queued),
    outboxAge: number(outbox.oldest_queued_age_s),
    uptime: number(body.uptime_s),
    memory: number(body.rss_mb),
    step: name(load.step),
  };
}

export function transcript(body, kind) {
  if (!of(body, "transcript") || body.kind !== kind || !isId(body.id)) return null;
  const text = spoken(body.text);
  return {
    id: body.id,
    seq: whole(body.seq),
    rev: whole(body.rev) ?? 0,
    text,
    stable: kind === "final" ? text : spoken(body.stable),
    tail: kind === "final" ? "" : spoken(body.tail),
    language: languageTag(body.language),
    channel: whole(body.channel) ?? 0,
    start: moment(body.start),
    duration: number(body.duration_ms) ?? 0,
    synced: body.clock_synced !== false,
    latency: number(table(body.latency_ms).total),
    site: name(body.site),
  };
}

export function gap(body) {
  if (!of(body, "gap") || !isId(body.id)) return null;
  return {
    id: body.id,
    seq: whole(body.seq),
    start: moment(body.start),
    duration: number(body.duration_ms) ?? 0,
    cause: name(body.cause, 32),
  };
}

export function answer(body) {
  if (!isObject(body) || !isId(body.command_id) || !ANSWERS.has(body.state)) return null;
  return { id: body.command_id, state: body.state, reason: name(body.reason, 300), result: brief(body.result) };
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const of = (body, kind) => isObject(body) && body.schema === `${kind}/1`;
const table = (value) => (isObject(value) ? value : {});
const number = (value) => (typeof value === "number" && Number.isFinite(value) && value >= -1e3 && value <= 1e12 ? value : null);
const whole = (value) => (Number.isSafeInteger(value) && value >= 0 ? value : null);
const isId = (value) => typeof value === "string" && value.length > 0 && value.length <= 64;

function moment(value) {
  const at = typeof value === "string" && value.length <= 40 ? Date.parse(value) : NaN;
  return Number.isNaN(at) ? null : at;
}

function names(value) {
  return Array.isArray(value) ? value.slice(0, MOST_REASONS).map((one) => name(one, 300)).filter(Boolean) : [];
}

function hardware(facts) {
  return name(facts.board, 80) || name(facts.cpu_model, 80);
}

/** The result of a command in one line. */
function brief(result) {
  if (!isObject(result)) return "";
  const parts = Object.entries(result).slice(0, 8).map(([key, value]) => {
    const said = typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
    return `${name(key, 40)}: ${name(said, 160)}`;
  });
  return parts.join(", ");
}
