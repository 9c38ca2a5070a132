// A small line chart of [time, value] points, drawn with elements.
import { svg } from "./dom.js";

const WIDTH = 320;
const HEIGHT = 56;
const EDGE = 4;

/** `points`: [[milliseconds, number | null], ...], oldest first; `label` is read aloud. */
export function sparkline(points, label) {
  const known = points.filter(([, value]) => value !== null);
  const chart = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "spark", role: "img", "aria-label": label, preserveAspectRatio: "none",
  });
  if (known.length < 2) return chart;
  const [first, last] = [known[0][0], known.at(-1)[0]];
  const highest = Math.max(...known.map(([, value]) => value)) || 1;
  const x = (at) => EDGE + ((at - first) / (last - first || 1)) * (WIDTH - 2 * EDGE);
  const y = (value) => HEIGHT - EDGE - (Math.max(0, value) / highest) * (HEIGHT - 2 * EDGE);
  const line = known.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  chart.append(
    svg("polygon", { class: "spark-area", points: `${x(first)},${HEIGHT} ${line} ${x(last)},${HEIGHT}` }),
    svg("polyline", { class: "spark-line", points: line, "vector-effect": "non-scaling-stroke" }),
  );
  return chart;
}

/** "12 values, 31 to 580 ms, now 44 ms" */
export function summary(points, show) {
  const values = points.map(([, value]) => value).filter((value) => value !== null);
  if (!values.length) return "nothing yet";
  const range = values.length > 1 ? `${show(Math.min(...values))} to ${show(Math.max(...values))}, ` : "";
  return `${range}now ${show(values.at(-1))}`;
}
