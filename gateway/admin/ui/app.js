// The operators' page: it shows /state, /limits and /routes, and sends the actions
// of the admin listener. Everything is put in as text, never as markup.
"use strict";

const $ = (id) => document.getElementById(id);

// el makes an element with attributes and children; strings become text.
function el(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
    else e.setAttribute(key, value);
  }
  e.append(...children.map((c) => (c instanceof Node ? c : String(c ?? ""))));
  return e;
}

const cell = (...children) => el("td", {}, ...children);
const number = (n) => el("td", { class: "number" }, n);
const pill = (kind, text, title = "") => el("span", { class: `pill ${kind}`, title }, text);
const time = (t) => (t ? new Date(t).toLocaleTimeString() : "");

function fill(table, rows, none) {
  const body = $(table).tBodies[0];
  const columns = $(table).tHead.rows[0].cells.length;
  body.replaceChildren(...(rows.length ? rows : [el("tr", {}, el("td", { class: "empty", colspan: columns }, none))]));
}

async function get(path) {
  const res = await fetch(path, { headers: { Accept: "application/json" } });
  if (res.status === 404) return null;
  if (!res.ok) throw new Error(`${path}: ${await res.text()}`);
  return res.json();
}

async function act(method, path, body) {
  try {
    const res = await fetch(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    trouble(res.ok ? "" : await res.text());
  } catch (e) {
    trouble(e);
  }
  refresh();
}

function trouble(text) {
  $("trouble").hidden = !text;
  $("trouble").textContent = String(text);
}

const breakerKind = { closed: "good", open: "bad", half_open: "warn" };
const backendKind = { ready: "good", connecting: "warn", slow_start: "warn", idle: "warn" };

function breaker(s, b) {
  const hold = (state) => () => act("PUT", "/breakers", { service: s.name, variant: s.variant || "", class: b.class, state });
  const says = b.state.replace("_", " ") + (b.forced ? ", held" : "");
  return el("div", { class: "row" }, `${b.class} `, pill(breakerKind[b.state] || "bad", says, `since ${time(b.since)}`), `${b.failures} of ${b.requests} failed `,
    b.state === "open" && b.forced ? "" : el("button", { onclick: hold("open"), "aria-label": `open the breaker ${b.class} of ${s.name}` }, "open"),
    b.forced ? el("button", { onclick: hold("auto"), "aria-label": `let the breaker ${b.class} of ${s.name} go` }, "let go") : "");
}

function backend(b) {
  const says = b.state.replace("_", " ");
  return el("div", { class: "row" }, el("code", {}, b.addr), pill(backendKind[b.state] || "bad", says, b.lastError || ""),
    `${b.inFlight} in flight`, b.ejections ? `, left out ${b.ejections}×` : "");
}

function services(all) {
  return all.map((s) => el("tr", {}, cell(el("code", {}, s.name), s.variant ? ` (${s.variant})` : ""), cell(el("code", {}, s.target)),
    number(s.limit ? `${s.inFlight} of ${s.limit}` : s.inFlight), cell(...(s.breakers || []).map((b) => breaker(s, b))),
    cell(...((s.backends || []).length ? s.backends.map(backend) : ["in this process, or none known"]))));
}

function config(c) {
  const rows = [["source", c.source || "none: defaults alone"], ["digest", c.digest], ["in use since", new Date(c.loaded).toLocaleString()], ["reloads", c.reloads]];
  if (c.lastError) rows.push(["refused at " + time(c.lastErrorAt), c.lastError]);
  if ((c.needsRestart || []).length) rows.push(["needs a restart", c.needsRestart.join(", ")]);
  $("config").replaceChildren(...rows.flatMap(([k, v]) => [el("dt", {}, k), el("dd", { class: k.startsWith("refused") ? "bad" : "" }, v)]));
}

function show(s) {
  $("ready").className = "pill " + (s.notReady ? "bad" : "good");
  $("ready").textContent = s.notReady ? `not ready: ${s.notReady}` : "ready";
  $("process").textContent = `${s.version}, up ${Math.round((new Date(s.now) - new Date(s.started)) / 1000)} s`;
  if (document.activeElement !== $("level")) $("level").value = s.logLevel;
  config(s.config);
  fill("services", services(s.services), "no services");
  $("cache-section").hidden = !s.cache;
  if (s.cache) $("cache").textContent = `${s.cache.entries} answers, ${(s.cache.bytes / 1048576).toFixed(1)} of ${(s.cache.maxBytes / 1048576).toFixed(0)} MiB`;
  fill("errors", s.errors.map((e) => el("tr", {}, cell(time(e.time)), cell(e.code), cell(el("code", {}, e.route)), cell(e.upstream, e.variant ? ` (${e.variant})` : ""),
    cell(el("code", {}, e.requestId)), cell(e.why))), "none");
}

let routes = [];
function showRoutes() {
  const want = $("filter").value.toLowerCase();
  const found = routes.filter((r) => JSON.stringify(r).toLowerCase().includes(want));
  fill("routes", found.map((r) => el("tr", {}, cell(r.verb || "gRPC"), cell(el("code", {}, r.template)), cell(el("code", {}, r.method)), cell(r.require), cell(r.owner),
    cell(r.limitClass ? `${r.limitClass}, cost ${r.limitCost}` : ""), cell(r.deadline), cell(el("code", {}, r.target)))), "none");
}

async function refresh() {
  try {
    const s = await get("/state");
    show(s);
    fill("limits", (s.quotas || []).map((q) => el("tr", {}, cell(q.limit), cell(q.who), number(q.used), number(q.size), cell(q.period))), "no quotas are configured, or none was used");
  } catch (e) {
    $("ready").className = "pill bad";
    $("ready").textContent = "no answer";
    trouble(e);
    return;
  }
  if ($("ready").textContent !== "no answer" && String($("trouble").textContent).startsWith("TypeError")) trouble("");
}

async function refreshRoutes() {
  const all = await get("/routes").catch(() => null);
  routes = (all && all.routes) || [];
  showRoutes();
}

$("filter").addEventListener("input", showRoutes);
$("level").addEventListener("change", () => act("PUT", "/log/level", { level: $("level").value }));
$("reload").addEventListener("click", () => act("POST", "/config/reload", {}).then(refreshRoutes));
$("purge-all").addEventListener("click", () => act("POST", "/cache/purge", {}));
$("purge").addEventListener("submit", (e) => {
  e.preventDefault();
  if ($("purge-tag").value) act("POST", "/cache/purge", { tag: $("purge-tag").value });
});
setInterval(() => $("live").checked && refresh(), 2000);
refresh();
refreshRoutes();
