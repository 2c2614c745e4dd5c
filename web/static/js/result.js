// One job's answer: label, bars, video with its timeline, frames, timings, other answers about the file, export.

import { createJob } from "./api.js";
import { byId, complain, h, s } from "./dom.js";
import { asked, clock, duration, isOpen, labelOf, percent, stateOf } from "./format.js";
import { bar, cancel } from "./history.js";
import { allModels, chosen } from "./options.js";
import { current, put, rootOf, select, siblings } from "./store.js";
import { timelineOf } from "./timeline.js";

const FRAMES_SHOWN = 4;
const SUBCATEGORIES_SHOWN = 5;
const STAGES = { queued: "waiting", fetch: "fetching", decode: "decoding", server: "server" };

let shown = null; // id and status of what is on screen
let player = null;

export function showResult() {
  const job = current();
  byId("welcome").hidden = job !== null;
  byId("answer").hidden = job === null;
  if (job === null) return;
  const key = `${job.id} ${job.status}`;
  if (key === shown) { // keep the player where it is
    byId("progress")?.replaceChildren(...progress(job));
    byId("others")?.replaceChildren(...others(job));
    return;
  }
  shown = key;
  byId("answer").replaceChildren(...(job.status === "done" ? answer(job) : [unfinished(job)]));
}

function unfinished(job) {
  return h("div", { class: "card flex flex-col gap-3", "data-testid": "unfinished" },
    h("h2", { class: "heading break-words" }, job.name),
    job.status === "failed"
      ? h("p", { class: "font-medium text-red-800 dark:text-red-200", "data-testid": "error" }, job.error)
      : h("div", { id: "progress", class: "flex flex-col gap-2" }, ...progress(job)),
    isOpen(job) ? h("button", { type: "button", class: "button self-start", onclick: () => cancel(job) }, "Cancel") : null,
    job.video_url && !isOpen(job) ? h("button", { type: "button", class: "button self-start", onclick: () => again(job, chosen()) }, "Ask again") : null);
}

function progress(job) {
  const steps = ["queued", "decode", "server", "done"];
  const at = job.status === "queued" ? 0 : Math.max(1, steps.indexOf(job.stage));
  return [
    h("p", { "data-testid": "state" }, stateOf(job)),
    h("ol", { class: "flex flex-wrap gap-2", "aria-label": "Stages" }, ...steps.map((step, i) => h("li", {
      class: `badge ${i === at ? "ring-2 ring-blue-700 dark:ring-blue-400" : ""}`, "aria-current": i === at ? "step" : null,
    }, (i < at ? "✓ " : "") + { queued: "in the queue", decode: "decode", server: "server", done: "done" }[step]))),
    job.progress === null ? null : bar(job.progress, "Progress"),
  ].filter(Boolean);
}

function answer(job) {
  const main = job.result ?? job.timeline;
  player = playerOf(job);
  return [
    h("div", { class: "card flex flex-col gap-4" }, headline(job, main), warnings(job.result), h("div", { class: "grid gap-4 md:grid-cols-2" },
      h("div", { class: "flex min-w-0 flex-col gap-2" }, player ?? noVideo(job), timelineSlot(job)),
      h("div", { class: "flex min-w-0 flex-col gap-4" }, bars("Classes", main.scores, main.label), subcategories(job.result), timings(job))),
    frames(job), exports(job)),
    h("div", { class: "card" }, h("div", { id: "others", class: "flex flex-col gap-3" }, ...others(job))),
  ];
}

function headline(job, main) {
  const label = labelOf(main);
  return h("div", {},
    h("p", { class: "quiet break-words" }, job.name),
    h("h2", { class: "flex flex-wrap items-baseline gap-3 text-3xl font-bold", "data-testid": "label", "data-label": label },
      s("svg", { width: "22", height: "22", "aria-hidden": "true" }, s("circle", { cx: 11, cy: 11, r: 11, class: `fill-${label}` })),
      label, h("span", { class: "text-xl font-semibold" }, percent(main.confidence)),
      main.mixed ? h("span", { class: "badge" }, "mixed") : null),
    main.reason ? h("p", { class: "quiet" }, `No label: ${main.reason}`) : null,
    h("p", { class: "quiet" }, `Answered by ${asked(job.options, allModels())} in ${duration(job.server_ms)}`,
      job.result?.from_cache ? h("span", { class: "badge ml-2", "data-testid": "kept" }, "from kept features: the video was not decoded again") : null));
}

function warnings(result) {
  const untrained = result?.model?.untrained ?? [];
  const texts = [...(result?.warnings ?? []).map(String),
    ...(untrained.length ? [`${untrained.join(", ")}: random weights, whose labels mean nothing`] : [])];
  return texts.length ? h("ul", { class: "rounded-lg border border-amber-600 p-3 text-sm" }, ...texts.map((text) => h("li", {}, text))) : null;
}

function bars(title, scores, label) {
  const rows = Object.entries(scores).sort((a, b) => b[1] - a[1]);
  return h("div", {}, h("h3", { class: "heading mb-1" }, title), h("ul", { class: "flex flex-col gap-2" }, ...rows.map(([name, share]) =>
    h("li", {}, h("div", { class: "flex justify-between text-sm" },
      h("span", { class: name === label ? "font-semibold" : "" }, name.replaceAll("_", " ")), h("span", { class: "tabular-nums" }, percent(share))),
    h("div", { "aria-hidden": "true" }, bar(share, name, title === "Classes" ? name : "unsure"))))));
}

function subcategories(result) {
  const found = result?.subcategories;
  if (!found || typeof found !== "object" || !Object.keys(found).length) return null;
  const top = Object.entries(found).filter(([, share]) => typeof share === "number").sort((a, b) => b[1] - a[1]).slice(0, SUBCATEGORIES_SHOWN);
  return top.length ? bars("Subcategories, the likeliest", Object.fromEntries(top), result.subcategory ?? null) : null;
}

function playerOf(job) {
  if (!job.video_url) return null;
  if (job.media_type.startsWith("image/")) return h("img", { src: job.video_url, alt: job.name, class: "w-full rounded-lg" });
  const video = h("video", { src: job.video_url, controls: true, preload: "metadata", playsinline: true, class: "aspect-video w-full rounded-lg bg-black", "aria-label": job.name });
  video.addEventListener("error", () => video.replaceWith(h("p", { class: "quiet rounded-lg border border-zinc-300 p-4 dark:border-zinc-600" },
    "This browser cannot play the file; the frames below are from it.")), { once: true });
  return video;
}

function noVideo() {
  return h("p", { class: "quiet rounded-lg border border-zinc-300 p-4 dark:border-zinc-600" }, "Answered from a features file: there is no video to show.");
}

/** The timeline needs to know how long the video is, which the player may be the one to say. */
function timelineSlot(job) {
  const video = player instanceof HTMLVideoElement ? player : null;
  const slot = h("div", {}, timelineOf(job, video));
  if (!job.timeline) video?.addEventListener("loadedmetadata", () => slot.replaceChildren(timelineOf(job, video) ?? ""), { once: true });
  return slot;
}

function frames(job) {
  const result = job.result;
  if (!result?.times_ms || !job.pictures.length) return null;
  const urls = new Map(job.pictures.map((picture) => [picture.time_ms, picture.url]));
  const weights = new Map();
  result.times_ms.forEach((ms, i) => weights.set(ms, (weights.get(ms) ?? 0) + result.attention[i]));
  const most = [...weights].filter(([ms]) => urls.has(ms)).sort((a, b) => b[1] - a[1]).slice(0, FRAMES_SHOWN).sort((a, b) => a[0] - b[0]);
  return h("div", {}, h("h3", { class: "heading mb-1" }, "Frames that drew most attention"),
    h("ul", { class: "grid grid-cols-2 gap-2 sm:grid-cols-4" }, ...most.map(([ms, weight]) => h("li", {}, h("button", {
      type: "button", class: "w-full text-left", "aria-label": `Go to ${clock(ms)}, attention ${percent(weight)}`,
      onclick: () => { if (player instanceof HTMLVideoElement) player.currentTime = ms / 1000; },
    }, h("img", { src: urls.get(ms), alt: "", width: 224, height: 126, loading: "lazy", class: "aspect-video w-full rounded-lg object-fill" }),
      h("span", { class: "quiet text-xs" }, `${clock(ms)} · ${percent(weight)}`))))),
    h("p", { class: "quiet mt-2" }, "Attention says how much each frame counted when the answer was pooled. It is no cause: a frame may count much and change nothing."));
}

function timings(job) {
  const spent = Object.keys(STAGES).filter((name) => name in job.stages_ms).map((name) => [name, job.stages_ms[name]]);
  return h("div", {}, h("h3", { class: "heading mb-1" }, "Where the time went"),
    h("dl", { class: "grid grid-cols-[auto_1fr] gap-x-4 text-sm", "data-testid": "timings" }, ...spent.flatMap(([name, ms]) => [
      h("dt", {}, STAGES[name]), h("dd", { class: "tabular-nums" }, duration(ms))]),
    h("dt", { class: "font-semibold" }, "in all"), h("dd", { class: "font-semibold tabular-nums" }, duration(job.server_ms))));
}

/** Every answer about this file side by side, and the ways to get another. */
function others(job) {
  const rows = siblings(job);
  const models = allModels();
  const cells = (one) => one.status === "done"
    ? [labelOf(one.result ?? one.timeline), percent((one.result ?? one.timeline).confidence), duration(one.server_ms) + (one.result?.from_cache ? ", kept features" : "")]
    : [stateOf(one), "", ""];
  return [
    h("h3", { class: "heading" }, "Ask again, side by side"),
    h("p", { class: "quiet" }, "Features of this video are kept: another member, another look or another threshold answers nearly at once."),
    h("div", { class: "flex flex-wrap gap-2" },
      h("button", { type: "button", class: "button button-primary", "data-key": "again", onclick: () => again(job, chosen()) }, "Ask again with the options chosen"),
      models.length > 1 ? h("button", { type: "button", class: "button", "data-key": "compare", onclick: () => compare(job) }, "Compare all members") : null),
    h("div", { class: "overflow-x-auto", tabindex: "0", role: "region", "aria-label": "Answers about this file" },
      h("table", { class: "w-full text-left text-sm", "data-testid": "others" },
        h("thead", {}, h("tr", {}, ...["Asked", "Label", "Confidence", "Server time"].map((name) => h("th", { scope: "col", class: "py-1 pr-4 font-semibold" }, name)))),
        h("tbody", {}, ...rows.map((one) => h("tr", { class: one.id === job.id ? "font-semibold" : "" },
          h("th", { scope: "row", class: "py-1 pr-4 font-normal" }, h("button", { type: "button", class: "text-left underline", onclick: () => select(one.id) }, asked(one.options, models))),
          ...cells(one).map((text) => h("td", { class: "py-1 pr-4 tabular-nums" }, text))))))),
  ];
}

async function again(job, fields, show = true) {
  try {
    const created = await createJob({ ...fields, source: rootOf(job) });
    put(created);
    if (show) select(created.id);
  } catch (problem) {
    complain(problem.message);
  }
}

/** Each member, and all together, in the way this job was asked; those that have answered are not asked again. */
async function compare(job) {
  const done = new Set(siblings(job).filter((one) => one.options.tta === job.options.tta)
    .map((one) => one.options.member ?? allModels().find((model) => model.default)?.name));
  for (const model of allModels()) {
    if (done.has(model.name) || !model.tta.includes(job.options.tta)) continue;
    await again(job, { member: model.name, tta: job.options.tta, timeline: "false", abstain: "false" }, false);
  }
}

function exports(job) {
  const link = (name, text) => h("a", { class: "button", href: `/api/jobs/${job.id}/${name}`, download: "" }, text);
  return h("div", { class: "flex flex-wrap items-center gap-2" }, h("span", { class: "quiet" }, "Keep it:"),
    link("result.json", "JSON"), link("result.csv", "CSV"), job.timeline ? link("chapters.vtt", "WebVTT chapters") : null);
}
