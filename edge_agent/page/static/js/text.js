// Strings from outside, made fit to be shown. Pure. Nothing here makes markup: views use textContent alone.

/** Characters that reorder or hide what stands beside them: controls, bidirectional formatting, zero widths. */
const SLY = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/gu;
/** Of these, what never belongs in speech; marks and joiners do (Persian, Hindi, emoji). */
const UNSPOKEN = /[\u0000-\u0008\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]/gu;

const LONGEST_NAME = 64;
export const LONGEST_TEXT = 4000;

/** A name (device, profile, reason): what cannot be seen is written out, so that no two names look alike. */
export function name(value, limit = LONGEST_NAME) {
  if (typeof value !== "string") return "";
  return cut(value, limit).replace(SLY, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** Spoken words: overrides of the writing direction and controls become U+FFFD, white space becomes one space. */
export function spoken(value, limit = LONGEST_TEXT) {
  if (typeof value !== "string") return "";
  return cut(value, limit).replace(/\s+/gu, " ").replace(UNSPOKEN, "\ufffd");
}

/** At most `limit` UTF-16 units, never half a character; says by "…" that something is missing. */
export function cut(value, limit) {
  if (value.length <= limit) return value;
  const code = value.charCodeAt(limit - 1);
  return `${value.slice(0, code >= 0xd800 && code < 0xdc00 ? limit - 1 : limit)}…`;
}

/** A language tag fit for the attribute `lang`; "" when it is none. */
export function languageTag(value) {
  return typeof value === "string" && /^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,4}$/.test(value) ? value : "";
}
