// Drives the operators' page in Chromium. It reads one JSON object on standard
// input ({base, executable, screenshot}) and prints what it has seen. No request
// leaves the page's origin.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { chromium } from "playwright-core";

const call = JSON.parse(await text(process.stdin));
const origin = new URL(call.base).origin;
const seen = { errors: [], external: [] };

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

const profile = await mkdtemp(join(tmpdir(), "admin-browser-"));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: call.executable,
  args: flags,
  viewport: { width: 1280, height: 1400 },
});
try {
  const page = browser.pages()[0] ?? (await browser.newPage());
  page.setDefaultTimeout(60_000);
  page.on("pageerror", (e) => seen.errors.push(String(e)));
  page.on("console", (m) => {
    if (m.type() === "error") seen.errors.push(m.text());
  });
  await page.route("**/*", (route) => {
    const url = new URL(route.request().url());
    if (url.origin === origin || url.protocol === "data:") return route.continue();
    seen.external.push(url.href);
    return route.abort();
  });
  await page.goto(call.base + "/"); // What an operator types.
  await page.locator("#services tbody tr td code").first().waitFor();
  await page.locator("#routes tbody tr td code").first().waitFor();
  seen.url = page.url();
  seen.text = await page.locator("body").innerText();
  seen.bold = await page.locator("main b").count(); // Markup in what is shown stays text.
  if (call.screenshot) await page.screenshot({ path: call.screenshot, fullPage: true });

  await page.locator("#filter").fill("cancelorder");
  seen.filtered = await page.locator("#routes tbody tr").count();
  if (call.act) {
    await page.locator("#level").selectOption("debug");
    await page.locator("#services").getByRole("button", { name: /open/ }).first().click();
    await page.locator("#reload").click();
    await page.waitForResponse((r) => r.url().endsWith("/state"));
  }
  seen.trouble = await page.locator("#trouble").innerText();
} finally {
  await browser.close();
  await rm(profile, { recursive: true, force: true });
}
console.log(JSON.stringify(seen));
