// The form that says how to look; its choices are the server's models.

import { byId, h } from "./dom.js";
import { percent } from "./format.js";

let models = [];

export const allModels = () => models;

export function showModels(found) {
  models = found;
  const member = byId("member");
  const before = member.value;
  member.replaceChildren(...found.map((model) => h("option", { value: model.name ?? "", selected: model.default },
    nameOf(model))));
  if (found.some((model) => model.name === before)) member.value = before;
  member.onchange = limit;
  limit();
}

/** Fields of a new job. */
export function chosen() {
  return {
    member: byId("member").value || null,
    tta: byId("tta").value,
    abstain: String(byId("abstain").checked && !byId("abstain").disabled),
    timeline: String(byId("timeline").checked),
  };
}

function nameOf(model) {
  const notes = [model.default ? "default" : null, model.untrained.length ? "untrained: means nothing" : null].filter(Boolean);
  const name = model.name === "ensemble" ? `all together (${model.members.join(" + ")})` : model.name ?? "the server's model";
  return notes.length ? `${name} (${notes.join(", ")})` : name;
}

/** Offer what the chosen member has. */
function limit() {
  const model = models.find((one) => (one.name ?? "") === byId("member").value);
  for (const option of byId("tta").options) option.disabled = !model?.tta.includes(option.value);
  if (byId("tta").selectedOptions[0]?.disabled) byId("tta").value = "off";
  const threshold = model?.abstain_below ?? null;
  byId("abstain").disabled = threshold === null;
  byId("abstain-note").textContent = threshold === null ? "(this server knows no threshold)" : `(below ${percent(threshold)})`;
}
