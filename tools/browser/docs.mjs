// Drives the documentation page in Chromium. It reads one JSON object on standard
// input (see Call in gateway/portal/portaltest, plus base and executable) and
// prints one on standard output (Result). No request leaves the page's origin.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { chromium } from "playwright-core";

const call = JSON.parse(await text(process.stdin));
const origin = new URL(call.base).origin;
const seen = { failed: [], external: [], errors: [] };

const flags = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

// A fresh profile: nothing of the machine's user, and nothing left behind.
const profile = await mkdtemp(join(tmpdir(), "docs-browser-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: call.executable,
  args: flags,
  viewport: { width: 1280, height: 1600 },
});
try {
  const page = browser.pages()[0] ?? (await browser.newPage());
  page.setDefaultTimeout(60_000);
  await watch(page);
  await page.addInitScript(record);
  await page.goto(call.base + "/docs");
  await page.locator(".opblock").first().waitFor();
  seen.title = await page.title();
  seen.operations = await operations(page);
  if (call.token) await authorize(page, call.token);
  Object.assign(seen, await execute(page, call));
  if (call.screenshot) await page.screenshot({ path: call.screenshot });
} finally {
  await browser.close();
  await rm(profile, { recursive: true, force: true });
}
console.log(JSON.stringify(seen));

// watch records what goes wrong, and lets nothing out to other origins.
async function watch(page) {
  page.on("requestfailed", (r) => seen.failed.push(`${r.url()}: ${r.failure()?.errorText}`));
  page.on("pageerror", (e) => seen.errors.push(String(e)));
  page.on("console", (m) => {
    if (m.type() === "error") seen.errors.push(m.text());
  });
  await page.route("**/*", (route) => {
    const url = new URL(route.request().url());
    if (url.origin === origin || ["data:", "blob:"].includes(url.protocol)) return route.continue();
    seen.external.push(url.href);
    return route.abort();
  });
}

// record keeps what the page's own calls are answered. It is asked for in the
// page, because DevTools has no body of an answer to an upload.
function record() {
  const fetch = window.fetch;
  window.answers = [];
  window.fetch = async (...args) => {
    const request = new Request(...args);
    const { method, url } = request;
    const answer = await fetch(request);
    const body = await answer.clone().text();
    window.answers.push({ method, path: new URL(url).pathname, contentType: answer.headers.get("content-type") ?? "", body });
    return answer;
  };
}

async function answered(page, method, path) {
  const wanted = { method, prefix: path.split("{")[0] };
  const found = await page.waitForFunction(
    (w) => window.answers.find((a) => a.method === w.method && a.path.startsWith(w.prefix)),
    wanted,
  );
  return found.jsonValue();
}

function operations(page) {
  return page.locator(".opblock").evaluateAll((blocks) =>
    blocks.map((b) => ({
      id: b.id,
      method: b.querySelector(".opblock-summary-method").textContent.trim(),
      path: b.querySelector("[data-path]").dataset.path,
    })),
  );
}

async function authorize(page, token) {
  await page.locator("button.btn.authorize").first().click();
  const dialogue = page.locator(".dialog-ux");
  const bearer = dialogue.locator("form").filter({ hasText: "bearerAuth" }); // Beside it: API keys.
  await bearer.locator("input").first().fill(token);
  await bearer.locator("button.authorize").click();
  await bearer.locator("button.btn-done").click();
}

async function execute(page, { method, path, params, body, file }) {
  const block = page
    .locator(`.opblock-${method.toLowerCase()}`)
    .filter({ has: page.locator(`[data-path="${path}"]`) });
  await block.locator(".opblock-summary-control").click();
  await block.locator("button.try-out__btn").click();
  for (const [name, value] of Object.entries(params ?? {})) {
    await block.locator(`tr[data-param-name="${name}"] input`).fill(value);
  }
  if (file) await block.locator('input[type="file"]').setInputFiles(file);
  if (body) await block.locator("textarea.body-param__text").fill(body);

  await block.locator("button.execute").click();
  const answer = await answered(page, method, path);
  const live = block.locator(".live-responses-table");
  const status = await live.locator("tbody .response-col_status").first().textContent();
  const shown = live.locator(".response-col_description .highlight-code code").first();
  return {
    status: parseInt(status, 10),
    contentType: answer.contentType,
    body: answer.body,
    shown: (await shown.count()) > 0 ? await shown.textContent() : "",
  };
}
