// Chromium as the tests use it: headless, talking to nobody but the page's own
// server, and every complaint of the page a failure.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { chromium } from "playwright-core";

import { Fake } from "./fake.mjs";

const flags = [
  "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--force-color-profile=srgb",
];

// The sandbox does not work for root, and tests run as root in containers.
if (process.getuid?.() === 0) flags.push("--no-sandbox");

function executable() {
  const found = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
    .find((path) => path && existsSync(path));
  assert.ok(found, "no Chromium found: install it, or name it in CHROMIUM");
  return found;
}

export const desktop = { width: 1360, height: 900 };
export const phone = { width: 320, height: 720 };

// Browser is one Chromium with a profile of its own. open gives pages that watch
// themselves; close says what they saw.
export class Browser {
  async start() {
    this.profile = await mkdtemp(join(tmpdir(), "imapgate-webtest-"));
    this.context = await chromium.launchPersistentContext(this.profile, {
      executablePath: executable(), headless: true, args: flags, viewport: null, ignoreDefaultArgs: ["--enable-automation"],
    });
    return this;
  }

  // open shows url in a new page. allowed are patterns of console messages that
  // the test brings about by itself: a refused request is one.
  async open(url, { size = desktop, dark = false, allowed = [] } = {}) {
    const page = await this.context.newPage();
    const complaints = [];
    const elsewhere = [];
    const origin = new URL(url).origin;
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type()) && !allowed.some((pattern) => pattern.test(message.text()))) {
        complaints.push(`${message.type()}: ${message.text()}`);
      }
    });
    page.on("pageerror", (err) => complaints.push(`exception: ${err.stack}`));
    page.on("request", (request) => {
      if (new URL(request.url()).origin !== origin) elsewhere.push(request.url());
    });
    page.setDefaultTimeout(30_000);
    await page.setViewportSize(size);
    await page.emulateMedia({ colorScheme: dark ? "dark" : "light", reducedMotion: "reduce" });
    await page.goto(url);
    page.check = () => {
      assert.deepEqual(complaints, [], "the console of the page has complaints");
      assert.deepEqual(elsewhere, [], "the page asked somebody else");
    };
    return page;
  }

  async close() {
    await this.context?.close();
    await rm(this.profile, { recursive: true, force: true, maxRetries: 3 });
  }
}

// withPage runs a test with a page of a fake proxy in some state, which is live
// when the test begins unless the proxy wants a token. The page's complaints are
// looked at when it is over.
export async function withPage(browser, scenario, options, test) {
  const fake = await new Fake(scenario(), options).start();
  let page;
  try {
    page = await browser.open(fake.url, options);
    if (!fake.token) await page.locator("#link[data-kind=live]").waitFor();
    await test(page, fake);
    page.check();
  } finally {
    await page?.close();
    await fake.stop();
  }
}

// screenshot writes one where SCREENSHOTS says, if it does.
export async function screenshot(page, name, options = {}) {
  if (!process.env.SCREENSHOTS) return;
  await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`), fullPage: true, ...options });
}
