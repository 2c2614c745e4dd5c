// Under the video: segments by class, the attention curve, and the playhead; a click anywhere seeks.

import { h, s } from "./dom.js";
import { clock, percent } from "./format.js";

const WIDTH = 1000;
const CURVE_HEIGHT = 60;

/** The strips of a job, for a player that may be null. */
export function timelineOf(job, player) {
  const lengthMs = job.timeline?.duration_ms ?? lengthFrom(job.result, player);
  if (!lengthMs) return null;
  const seek = (ms) => {
    if (!player) return;
    player.currentTime = ms / 1000;
  };
  const seekByPointer = (event) => {
    if (event.detail === 0) return; // the keyboard's click, which has no place
    const box = event.currentTarget.getBoundingClientRect();
    event.stopPropagation();
    seek(((event.clientX - box.left) / box.width) * lengthMs);
  };
  const playhead = s("line", { class: "playhead", "stroke-width": "3", x1: 0, x2: 0, y1: 0, y2: CURVE_HEIGHT, "vector-effect": "non-scaling-stroke" });
  player?.addEventListener("timeupdate", () => {
    const x = Math.min(WIDTH, (player.currentTime * 1000 / lengthMs) * WIDTH);
    playhead.setAttribute("x1", x);
    playhead.setAttribute("x2", x);
  });
  return h("div", { class: "flex flex-col gap-1", "data-testid": "timeline" },
    job.timeline ? segments(job.timeline, seek, seekByPointer, lengthMs) : null,
    job.result?.times_ms ? curve(job.result, lengthMs, playhead, seekByPointer) : null,
    h("div", { class: "quiet flex justify-between text-xs" }, h("span", {}, "0:00"),
      h("span", {}, player ? "click to go there" : ""), h("span", {}, clock(lengthMs))));
}

function segments(timeline, seek, seekByPointer, lengthMs) {
  const strip = h("div", { class: "flex overflow-hidden rounded-lg", role: "group", "aria-label": "Segments of the video", onclick: seekByPointer },
    ...timeline.segments.map((segment) => {
      const label = segment.label ?? "unsure";
      const text = `${label}, ${percent(segment.confidence)}, from ${clock(segment.start_ms)} to ${clock(segment.end_ms)}`;
      const button = h("button", {
        type: "button", class: `segment bg-${label}`, "aria-label": text, title: text,
        onclick: (event) => { if (event.detail === 0) seek(segment.start_ms); },
      }, label);
      button.style.flexGrow = String(Math.max(1, segment.end_ms - segment.start_ms) / lengthMs); // CSSOM: no style attribute
      button.style.flexBasis = "0";
      return button;
    }));
  return strip;
}

function curve(result, lengthMs, playhead, seekByPointer) {
  const most = Math.max(...result.attention);
  const points = result.times_ms.map((ms, i) => [
    Math.min(WIDTH, (ms / lengthMs) * WIDTH), CURVE_HEIGHT - (result.attention[i] / most) * (CURVE_HEIGHT - 4)]);
  const line = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" L");
  const area = `M${points[0][0].toFixed(1)},${CURVE_HEIGHT} L${line} L${points.at(-1)[0].toFixed(1)},${CURVE_HEIGHT} Z`;
  const peak = result.times_ms[result.attention.indexOf(most)];
  return s("svg", {
    class: "block h-16 w-full rounded-lg bg-zinc-100 dark:bg-zinc-800", viewBox: `0 0 ${WIDTH} ${CURVE_HEIGHT}`,
    preserveAspectRatio: "none", role: "img", onclick: seekByPointer, "data-testid": "attention",
    "aria-label": `Attention over time, highest at ${clock(peak)}`,
  }, s("path", { class: "curve", d: area, "stroke-width": "2", "vector-effect": "non-scaling-stroke" }), playhead);
}

function lengthFrom(result, player) {
  if (player && Number.isFinite(player.duration)) return player.duration * 1000;
  const times = result?.times_ms;
  return times?.length ? times.at(-1) + (times.length > 1 ? (times.at(-1) - times[0]) / (times.length - 1) / 2 : 1000) : 0;
}
