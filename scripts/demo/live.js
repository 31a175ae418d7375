// The instrument of the demonstration page. It sends requests to the server that the page came from, draws each of
// them, and shows the workers as the server describes them. It polls, because a response that never ends would
// occupy a worker.
"use strict";

const WINDOW_MS = 30_000;
const CLIENTS = 4;
const CLIENT_PERIOD_MS = 200; // with four clients, about 20 requests a second
const POLL_MS = 1000, BUSY_POLL_MS = 250;
const SLOW_AT_ONCE = 3; // A browser opens six connections, and four workers should not all be busy.
const GIVE_UP_AFTER = 5; // failures in a row
const EVENTS = 12;
const SCALE = [1, 10, 100, 1000, 10_000];

const at = (id) => document.getElementById(id);
const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const token = document.body.dataset.token;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const counts = { total: 0, failed: 0, inARow: 0 };
let dots = []; // requests that have ended: { at, ms, slot, kind, lane, isFailed }
let marks = []; // what happened: { at, text }
const running = new Map(); // slow requests that run: lane of the chart -> start
const versions = new Map(); // process -> the version that it answered with
const generations = new Map(); // generation -> its version, known from one of its workers
let server = null; // the last status
let isPaused = false, isAway = false, hurryUntil = 0;

// --- Requests ---

// Sends one request, counts it, and returns what it said, or null if it failed.
async function ask(target, kind, options = {}, lane = 0) {
  const begun = performance.now();
  let problem, body = null;
  try {
    const response = await fetch(target, { cache: "no-store", ...options });
    body = await response.json().catch(() => null);
    if (response.status >= 500) {
      const id = response.headers.get("X-Request-Id");
      problem = `${response.status} ${response.statusText}${id ? `. Its ID is ${id}, and the server's log has it, too.` : "."}`;
    } else if (body === null) problem = "the response was not complete.";
  } catch {
    problem = "the connection ended without a response.";
  }
  const ended = performance.now();
  counts.total += 1;
  dots.push({ at: ended, ms: ended - begun, slot: body?.worker, kind, lane, isFailed: Boolean(problem) });
  if (!problem) {
    counts.inARow = 0;
    if (body.version && body.pid) versions.set(body.pid, body.version);
    return body;
  }
  counts.failed += 1;
  counts.inARow += 1;
  paintFigures();
  if (counts.inARow <= GIVE_UP_AFTER) say(`A request failed: ${target.split("?")[0]}, ${problem}`, "bad");
  if (counts.inARow === GIVE_UP_AFTER) leave();
  return null;
}

async function client(number) {
  await later((number * CLIENT_PERIOD_MS) / CLIENTS);
  for (;;) {
    const begun = performance.now(), period = CLIENT_PERIOD_MS * (0.5 + Math.random());
    if (!isPaused && !isAway && !document.hidden) await ask("/fast", "fast");
    await later(Math.max(20, period - (performance.now() - begun)));
  }
}

function leave() {
  isAway = true;
  say("The server does not answer. The page stops sending requests until it does.", "bad");
}

async function poll() {
  for (;;) {
    if (!document.hidden) await look();
    const isBusy = performance.now() < hurryUntil || running.size > 0 || server?.reload.state === "running";
    await later(isBusy ? BUSY_POLL_MS : POLL_MS);
  }
}

async function look() {
  if (isAway) {
    // Not counted: the page has said that the server is away.
    const found = await fetch("/status", { cache: "no-store" }).then((response) => response.json(), () => null);
    if (found === null) return;
    isAway = false;
    counts.inARow = 0;
    say("The server answers again.", "good");
    return show(found);
  }
  const found = await ask("/status", "status");
  if (found) show(found);
}

function show(status) {
  at("blind").hidden = !status.error;
  if (status.error) return put("blind", status.error);
  if (server && server.start !== status.start) return location.reload(); // another server, with another token
  watch(server, status);
  server = status;
  paintWorkers();
}

// --- What happens to the server ---

let deployment = null; // { version, begun, total, failed, outcome }
const killed = new Map(); // process -> { slot, at, failed }

function watch(before, now) {
  for (const [pid, death] of killed) {
    const next = now.workers.find((one) => one.slot === death.slot && one.pid !== pid && one.state === "ready");
    if (!next) continue;
    killed.delete(pid);
    const lost = counts.failed - death.failed;
    const seconds = ((performance.now() - death.at) / 1000).toFixed(1);
    say(`Process ${next.pid} took the place of ${pid} within ${seconds} s. ${losses(lost)}`, lost ? "" : "good");
  }
  if (!before) return;
  const isOver = now.reload.state === "ended" && (before.reload.state !== "ended" || now.reload.ago_s < before.reload.ago_s);
  if (deployment && isOver) finishDeployment((deployment.outcome = now.reload.outcome));
  else if (isOver && isBrokenEnd) isBrokenEnd = false;
  else if (isOver) say(`A reload has ended: ${now.reload.outcome}.`);
}

function finishDeployment(outcome) {
  const { version, begun, total, failed } = deployment;
  if (version === null) return; // The response to the command is still on its way.
  deployment = null;
  const lost = counts.failed - failed;
  if (outcome !== "done") return say(`Version ${version} does not serve: ${outcome}.`, "bad");
  mark(`version ${version}`);
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  say(`Version ${version} serves in all workers after ${seconds} s, and ${counts.total - total} requests meanwhile. ${losses(lost)}`, lost ? "" : "good");
}

function losses(lost) {
  return lost === 0 ? "No request failed." : lost === 1 ? "One request failed, as reported below." : `${lost} requests failed, as reported below.`;
}

// --- Buttons ---

async function command(target) {
  hurryUntil = performance.now() + 5000;
  const answer = await ask(target, "command", { method: "POST", headers: { "X-Demo-Token": token } });
  hurryUntil = performance.now() + 5000;
  if (answer?.error) say(answer.error, "bad");
  return answer?.error ? null : answer;
}

async function sendSlow() {
  if (running.size >= SLOW_AT_ONCE) return;
  let lane = 0;
  while (running.has(lane)) lane += 1;
  running.set(lane, performance.now());
  paintButtons();
  const answer = await ask("/slow", "slow", {}, lane);
  running.delete(lane);
  paintButtons();
  if (answer) say(`Worker ${answer.worker} answered a slow request. The others served everything else meanwhile.`);
}

async function kill(worker) {
  if (!token) return;
  const ready = server ? server.workers.filter((one) => one.state === "ready" && one.pid) : [];
  const chosen = worker ?? ready[Math.floor(Math.random() * ready.length)];
  if (!chosen) return;
  killed.set(chosen.pid, { slot: chosen.slot, at: performance.now(), failed: counts.failed });
  mark(`killed ${chosen.slot}`);
  if (await command(`/kill?pid=${chosen.pid}`)) say(`Worker ${chosen.slot} was killed: process ${chosen.pid}, by SIGKILL.`);
  else killed.delete(chosen.pid);
}

let isDeployingBroken = false, isBrokenEnd = false; // whether the next end of a reload is that of broken code
async function deploy() {
  if (!token || deployment || isDeployingBroken) return;
  deployment = { version: null, begun: performance.now(), total: counts.total, failed: counts.failed, outcome: null };
  paintButtons();
  mark("deploy");
  const answer = await command("/deploy");
  if (answer) {
    deployment.version = answer.version;
    at("report").hidden = true;
    say(`Version ${answer.version} is being deployed. One worker tries it first, then the others follow one by one.`);
    if (deployment.outcome) finishDeployment(deployment.outcome);
  } else deployment = null;
  paintButtons();
}

async function deployBroken() {
  if (!token || deployment || isDeployingBroken) return;
  isDeployingBroken = isBrokenEnd = true;
  paintButtons();
  mark("broken code");
  const failed = counts.failed;
  const answer = await command("/deploy?broken=1");
  isDeployingBroken = false;
  paintButtons();
  if (!answer) return;
  at("report").hidden = false;
  at("report-text").textContent = answer.report || answer.outcome;
  const lost = counts.failed - failed;
  if (answer.has_failed) say(`Version ${answer.version} is broken and was refused. The old code keeps serving. ${losses(lost)}`, lost ? "" : "good");
  else say(`Version ${answer.version} was accepted, although it is broken.`, "bad");
}

// --- Painting ---

function say(text, look = "") {
  const list = at("events");
  if (list.querySelector(".hint")) list.replaceChildren();
  const item = document.createElement("li"), time = document.createElement("time"), body = document.createElement("span");
  time.textContent = new Date().toTimeString().slice(0, 8);
  body.textContent = text;
  item.className = look;
  item.append(time, body);
  list.prepend(item);
  while (list.children.length > EVENTS) list.lastChild.remove();
  at("said").textContent = text;
}

function mark(text) {
  marks.push({ at: performance.now(), text });
}

function put(id, text) {
  const element = at(id);
  if (element.textContent !== text) element.textContent = text;
}

function milliseconds(ms) {
  return ms === undefined ? "–" : ms < 10 ? `${ms.toFixed(1)} ms` : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function paintFigures() {
  const times = dots.filter((dot) => dot.kind === "fast").map((dot) => dot.ms).sort((a, b) => a - b);
  const percentile = (part) => times[Math.min(times.length - 1, Math.floor(times.length * part))];
  put("total", counts.total.toLocaleString("en-US"));
  put("failed", counts.failed.toLocaleString("en-US"));
  at("failed").className = counts.failed ? "bad" : "good";
  put("p50", milliseconds(percentile(0.5)));
  put("p99", milliseconds(percentile(0.99)));
}

function paintButtons() {
  const set = (id, isOff) => at(id).setAttribute("aria-disabled", String(isOff));
  set("slow", running.size >= SLOW_AT_ONCE);
  set("kill", !token);
  set("deploy", !token || Boolean(deployment) || isDeployingBroken);
  set("broken", !token || Boolean(deployment) || isDeployingBroken);
  const next = versions.size ? `version ${Math.max(...versions.values()) + 1}` : "new code";
  put("deploy-name", deployment ? "Deploying …" : `Deploy ${next}`);
}

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

const cards = new Map(); // slot -> the parts of its card

function card(slot) {
  if (cards.has(slot)) return cards.get(slot);
  const item = element("li", `worker slot${slot % 8}`);
  const parts = { item };
  const head = element("div", "row");
  const name = element("h3");
  name.append(element("i", `glyph shape${slot % 4}`), `Worker ${slot}`);
  parts.state = element("span", "state");
  head.append(name, parts.state);
  const facts = element("dl");
  for (const [key, label] of [["pid", "Process"], ["version", "Version"], ["requests", "Requests"], ["memory", "Memory"]]) {
    const pair = element("div");
    parts[key] = element("dd");
    pair.append(element("dt", "", label), parts[key]);
    facts.append(pair);
  }
  parts.doing = element("p", "doing");
  item.append(head, facts, parts.doing);
  if (token) {
    parts.button = element("button", "quiet", "Kill");
    parts.button.type = "button";
    parts.button.addEventListener("click", () => parts.worker?.pid && kill(parts.worker));
    item.append(parts.button);
  }
  const after = [...cards.keys()].filter((one) => one > slot).sort((a, b) => a - b)[0];
  at("workers").insertBefore(item, after === undefined ? null : cards.get(after).item);
  cards.set(slot, parts);
  return parts;
}

function paintWorkers() {
  const slots = new Map();
  for (const { pid, generation } of server.workers) if (versions.has(pid)) generations.set(generation, versions.get(pid));
  for (const worker of server.workers) slots.set(worker.slot, [...(slots.get(worker.slot) ?? []), worker]);
  for (const [slot, parts] of cards) if (!slots.has(slot)) parts.item.remove(), cards.delete(slot);
  const text = (node, value) => node.textContent !== value && (node.textContent = value);
  for (const [slot, found] of slots) {
    // While a worker is being replaced, its slot has two. The newest one that serves stands for it.
    found.sort((a, b) => (b.state === "ready") - (a.state === "ready") || b.generation - a.generation);
    const [worker, other] = found, parts = card(slot);
    if (parts.worker && parts.worker.pid !== worker.pid) flash(parts.item);
    parts.worker = worker;
    const busy = worker.request && worker.state === "ready";
    const state = worker.state !== "ready" ? worker.state : busy ? "busy" : "idle";
    text(parts.state, state);
    parts.state.dataset.state = state;
    text(parts.pid, worker.pid ? String(worker.pid) : "–");
    text(parts.version, String(generations.get(worker.generation) ?? "–"));
    text(parts.requests, worker.requests === null ? "–" : worker.requests.toLocaleString("en-US"));
    text(parts.memory, worker.rss_bytes ? `${(worker.rss_bytes / 2 ** 20).toFixed(1)} MB` : "–");
    const replaced = other?.pid ? `process ${other.pid}: ${other.state}` : "";
    text(parts.doing, busy ? `${worker.request.line}, for ${milliseconds(worker.request.age_s * 1000)}` : replaced || "waiting for a request");
    parts.button?.setAttribute("aria-label", `Kill worker ${slot}`);
  }
  paintButtons();
}

function flash(item) {
  item.classList.remove("new");
  void item.offsetWidth; // so that the animation begins again
  item.classList.add("new");
}

// --- The chart ---

const canvas = at("canvas"), pen = canvas.getContext("2d");
let colors = {};

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  colors = { soft: of("--soft"), line: of("--line"), bad: of("--bad"), ink: of("--ink"), slots: [] };
  for (let slot = 0; slot < 8; slot += 1) colors.slots.push(of(`--slot${slot}`));
}

const SHAPES = [
  (x, y, r) => pen.arc(x, y, r, 0, 7),
  (x, y, r) => pen.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8),
  (x, y, r) => { pen.moveTo(x, y - r * 1.2); pen.lineTo(x + r * 1.15, y + r * 0.9); pen.lineTo(x - r * 1.15, y + r * 0.9); pen.closePath(); },
  (x, y, r) => { pen.moveTo(x, y - r * 1.35); pen.lineTo(x + r * 1.35, y); pen.lineTo(x, y + r * 1.35); pen.lineTo(x - r * 1.35, y); pen.closePath(); },
];

function paintChart(now) {
  const width = canvas.clientWidth, height = canvas.clientHeight, ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const left = 54, right = width - 8, top = 52, bottom = height - 22;
  const span = Math.log10(SCALE.at(-1) / SCALE[0]);
  const x = (time) => right - ((now - time) / WINDOW_MS) * (right - left);
  const y = (ms) => bottom - (Math.log10(Math.min(Math.max(ms, 1), SCALE.at(-1))) / span) * (bottom - top);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.lineWidth = 1;
  for (const ms of SCALE) {
    pen.strokeStyle = colors.line;
    pen.beginPath();
    pen.moveTo(left, Math.round(y(ms)) + 0.5);
    pen.lineTo(right, Math.round(y(ms)) + 0.5);
    pen.stroke();
    pen.fillStyle = colors.soft;
    pen.textAlign = "right";
    pen.fillText(ms < 1000 ? `${ms} ms` : `${ms / 1000} s`, left - 6, y(ms));
  }
  pen.fillText("now", right, height - 8);
  pen.textAlign = "left";
  pen.fillText("30 s ago", left, height - 8);
  pen.save();
  pen.beginPath();
  pen.rect(left, 0, right - left + 6, height);
  pen.clip();
  paintMarks(x, bottom, right);
  paintRequests(x, y, now);
  pen.restore();
}

function paintMarks(x, bottom, right) {
  pen.setLineDash([3, 3]);
  const free = [-Infinity, -Infinity, -Infinity]; // where the labels of each line end
  for (const { at: time, text } of marks) {
    const place = x(time), length = pen.measureText(text).width + 8;
    pen.strokeStyle = colors.soft;
    pen.beginPath();
    pen.moveTo(place, 6);
    pen.lineTo(place, bottom);
    pen.stroke();
    const isAtEnd = place + length > right, begin = isAtEnd ? place - length : place;
    const row = free.findIndex((end) => begin >= end);
    if (row < 0) continue; // There is no room. The list of events has it, too.
    free[row] = begin + length;
    pen.textAlign = isAtEnd ? "right" : "left";
    pen.fillStyle = colors.ink;
    pen.fillText(text, place + (isAtEnd ? -4 : 4), 10 + 15 * row);
  }
  pen.setLineDash([]);
}

function paintRequests(x, y, now) {
  const bar = (begin, end, lane, color) => {
    pen.strokeStyle = color;
    pen.lineWidth = 5;
    pen.lineCap = "round";
    pen.beginPath();
    pen.moveTo(x(begin), y(3000) + 8 * lane);
    pen.lineTo(x(end), y(3000) + 8 * lane);
    pen.stroke();
  };
  const size = canvas.clientWidth < 500 ? 2.1 : 2.8;
  for (const [lane, begin] of running) bar(begin, now, lane, colors.soft);
  for (const dot of dots) {
    const color = dot.isFailed ? colors.bad : colors.slots[dot.slot % 8];
    if (dot.kind === "slow") bar(dot.at - dot.ms, dot.at, dot.lane, color);
    if (dot.isFailed) cross(x(dot.at), dot.kind === "slow" ? y(3000) + 8 * dot.lane : y(dot.ms));
    else if (dot.kind === "fast") {
      pen.fillStyle = color;
      pen.beginPath();
      SHAPES[dot.slot % 4](x(dot.at), y(dot.ms), size);
      pen.fill();
    }
  }
}

function cross(a, b) {
  pen.strokeStyle = colors.bad;
  pen.lineWidth = 3;
  pen.beginPath();
  pen.moveTo(a - 6, b - 6);
  pen.lineTo(a + 6, b + 6);
  pen.moveTo(a + 6, b - 6);
  pen.lineTo(a - 6, b + 6);
  pen.stroke();
}

function frame() {
  if (!document.hidden && !isPaused) paintChart(performance.now());
  // Without motion, the chart is a picture that is replaced once a second.
  if (calm.matches) setTimeout(frame, 1000);
  else requestAnimationFrame(frame);
}

function tidy() {
  const since = performance.now() - WINDOW_MS;
  dots = dots.filter((dot) => dot.at > since);
  marks = marks.filter((one) => one.at > since);
  const alive = new Set(server?.workers.map((one) => one.pid));
  for (const pid of versions.keys()) if (server && !alive.has(pid)) versions.delete(pid);
  paintFigures();
}

function describe() {
  const said = ["p50", "p99"].map((id) => at(id).textContent);
  canvas.setAttribute("aria-label", `Response times of the last 30 seconds: median ${said[0]}, 99th percentile ${said[1]}, ${counts.failed} of ${counts.total} requests failed.`);
}

function start() {
  at("instrument").hidden = false;
  readColors();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColors);
  at("slow").addEventListener("click", sendSlow);
  at("kill").addEventListener("click", () => kill());
  at("deploy").addEventListener("click", deploy);
  at("broken").addEventListener("click", deployBroken);
  at("pause").addEventListener("click", () => {
    isPaused = !isPaused;
    put("pause", isPaused ? "Continue" : "Pause");
  });
  paintButtons();
  setInterval(tidy, 500);
  setInterval(describe, 5000);
  for (let number = 0; number < CLIENTS; number += 1) client(number);
  poll();
  requestAnimationFrame(frame);
}

start();
