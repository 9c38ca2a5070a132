// How long to wait before the next try. Pure.

const FIRST_MS = 500;
const LONGEST_MS = 15_000;

/** Doubles with each failure in a row up to 15 s, spread by half so that a thousand screens do not come at once. */
export function delayMs(failures, random) {
  const most = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures, 10));
  return Math.round(most * (0.5 + random / 2));
}
