// The connection to the proxy: that it comes back, that nobody mistakes old
// figures for new ones, and the token.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { Browser, withPage as inBrowser } from "./browser.mjs";
import * as scenarios from "./scenarios.mjs";

const browser = new Browser();
const timed = new Browser(); // whose pages have a clock that the tests set: it is that of all its pages
before(() => Promise.all([browser.start(), timed.start()]));
after(() => Promise.all([browser.close(), timed.close()]));

const withPage = (options, test) => inBrowser(browser, scenarios.calm, options, test);
const withClock = (options, test) => inBrowser(timed, scenarios.calm, options, async (page, fake) => {
  await page.clock.install();
  await page.reload();
  await page.locator("#link[data-kind=live]").waitFor();
  await test(page, fake);
});
const gone = [/Failed to load resource/, /net::ERR_/];

describe("when the proxy goes away", () => {
  it("the page says so, keeps what it knew, and comes back by itself", () => withPage({ allowed: gone }, async (page, fake) => {
    await page.locator("#link[data-kind=live]").waitFor();
    await fake.stop();
    await page.getByRole("alert").getByText("Not connected").waitFor();
    assert.match(await page.locator("#offline").innerText(), /What you see is from \d\d:\d\d:\d\d\. Next attempt in \d+ s/);
    assert.match(await page.title(), /^Not connected/);
    assert.equal(await page.locator("#backend-mail1").isVisible(), true);
    await fake.start();
    await page.locator("#link[data-kind=live]").waitFor();
    assert.equal(await page.locator("#offline").isVisible(), false);
    assert.equal(await page.title(), "imapgate");
    fake.change((state) => Object.assign(state.backends[0], { up: false }));
    await page.locator("#backend-mail1").getByText("Down", { exact: true }).waitFor();
  }));

  it("somebody in a hurry need not wait", () => withClock({ allowed: gone }, async (page, fake) => {
    await page.clock.pauseAt(Date.now() + 3_600_000); // no timer fires any more
    await fake.stop();
    await page.locator("#link[data-kind=waiting]").waitFor();
    await fake.start();
    await page.getByRole("button", { name: "Try now" }).click();
    await page.locator("#link[data-kind=live]").waitFor();
  }));

  it("a silence counts as gone", () => withClock({}, async (page, fake) => {
    await page.clock.resume();
    const before = fake.opened;
    await page.clock.fastForward(60_000);
    await page.getByText("gone silent").waitFor();
    await page.clock.runFor(5_000);
    await page.locator("#link[data-kind=live]").waitFor();
    assert.ok(fake.opened > before);
  }));
});

describe("a token", () => {
  const allowed = [/status of 401/];

  it("is asked for once, kept in the tab, and sent with everything", () => withPage({ token: "correct horse battery", allowed }, async (page, fake) => {
    const sent = [];
    page.on("request", (request) => sent.push([new URL(request.url()).pathname, request.headers().authorization]));
    const dialog = page.getByRole("dialog", { name: "Token" });
    await dialog.waitFor();
    await page.getByRole("textbox", { name: "Token" }).fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByText("does not accept this token").waitFor();
    await page.getByRole("textbox", { name: "Token" }).fill("correct horse battery");
    await page.keyboard.press("Enter");
    await page.locator("#link[data-kind=live]").waitFor();
    await page.locator(".sessions tbody tr").first().waitFor();
    const good = sent.filter(([, header]) => header === "Bearer correct horse battery").map(([path]) => path);
    for (const path of ["/v1/events", "/v1/sessions", "/v1/overrides", "/v1/certificates", "/v1/reloads"]) assert.ok(good.includes(path), path);
    assert.deepEqual(await page.evaluate(() => [Object.keys(localStorage), document.cookie, location.search + location.hash]), [[], "", ""]);
    await page.reload();
    await page.locator("#link[data-kind=live]").waitFor();
    assert.equal(await dialog.isVisible(), false);
  }));

  it("is asked for again when it is no longer good", () => withPage({ token: "correct horse battery", allowed: [...allowed, ...gone] }, async (page, fake) => {
    await page.getByRole("textbox", { name: "Token" }).fill(fake.token);
    await page.keyboard.press("Enter");
    await page.locator("#link[data-kind=live]").waitFor();
    fake.token = "another one entirely";
    await fake.stop();
    await fake.start();
    await page.getByText("does not accept this token").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("alert").getByText("A token is needed").waitFor();
    await page.getByRole("searchbox", { name: "User" }).fill("somebody"); // a request of another kind
    await page.locator("#sessions-body").getByText("A token is needed").waitFor();
    assert.equal(await page.getByRole("dialog", { name: "Token" }).isVisible(), false);
    await page.getByRole("button", { name: "Enter token" }).click();
    await page.getByRole("textbox", { name: "Token" }).fill(fake.token);
    await page.keyboard.press("Enter");
    await page.locator("#link[data-kind=live]").waitFor();
  }));
});
