// What the page shows, and what it does when its buttons are used.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { Browser, desktop, phone, withPage as inBrowser } from "./browser.mjs";
import * as scenarios from "./scenarios.mjs";

const browser = new Browser();
before(() => browser.start());
after(() => browser.close());

const withPage = (scenario, test, options = {}) => inBrowser(browser, scenario, options, test);
const texts = (locator) => locator.allInnerTexts();

describe("what is broken comes first", () => {
  it("in the list of problems, in the table and in the title of the tab", () => withPage(scenarios.night, async (page) => {
    await page.locator("#problems li").nth(6).waitFor();
    assert.deepEqual(await texts(page.locator("#problems strong")), [
      "mail2 is down", "The last reload of the table was refused", "Changes are not saved", "Certificate imap.example.net", "Certificate mail.example.net",
      "mail3 is draining", "mail4 is in maintenance",
    ]);
    assert.deepEqual(await texts(page.locator(".backends tbody th strong")), ["mail2", "mail3", "mail4", "archive", "mail1"]);
    assert.equal(await page.title(), "mail2 is down · imapgate");
    const row = page.locator("#backend-mail2");
    assert.match(await row.innerText(), /Down[^]*connection refused \(3 checks in a row\)[^]*down for 4 min[^]*37/);
  }));

  it("and nothing is made up when nothing is broken", () => withPage(scenarios.calm, async (page) => {
    assert.equal(await page.locator("#attention-title").innerText(), "No problems");
    assert.equal(await page.locator("#problems li").count(), 0);
    assert.equal(await page.title(), "imapgate");
  }));

  it("a refused table stays a problem when something else was reloaded", () => withPage(scenarios.night, async (page, fake) => {
    const list = page.locator("#problems").getByText("The last reload of the table was refused");
    await list.waitFor();
    const reload = (what, ok) => fake.change((state) => {
      state.status.reload = { at: scenarios.ago(0), what, by: "SIGHUP", ok, took_seconds: 0.1, rows: 1 };
      state.reloads.unshift(state.status.reload);
    });
    reload("certificates", true);
    await page.locator("#reloads li", { hasText: "certificates · SIGHUP" }).waitFor();
    assert.equal(await list.isVisible(), true);
    reload("configuration", true);
    await list.waitFor({ state: "detached" });
  }));

  it("and a screen reader hears of it once", () => withPage(scenarios.calm, async (page, fake) => {
    await page.evaluate(() => {
      globalThis.heard = [];
      new MutationObserver(() => globalThis.heard.push(document.getElementById("announce").textContent))
        .observe(document.getElementById("announce"), { childList: true, characterData: true, subtree: true });
    });
    const down = (up) => fake.change((state) => Object.assign(state.backends[0], { up, health_since: scenarios.ago(1) }));
    down(false);
    await page.locator("#backend-mail1").getByText("Down", { exact: true }).waitFor();
    fake.change(() => {});
    down(true);
    await page.locator("#problems li").waitFor({ state: "detached" });
    assert.deepEqual(await page.evaluate(() => globalThis.heard), ["mail1 is down", "No longer: mail1 is down"]);
  }));
});

describe("what changes shows up without a reload", () => {
  it("a new session", () => withPage(scenarios.calm, async (page, fake) => {
    await page.locator(".sessions tbody tr").first().waitFor();
    fake.change((state) => {
      state.sessions.unshift(scenarios.session(1, "newcomer@example.org", "mail2", { id: "new", since: scenarios.ago(0) }));
      state.status.sessions++;
    });
    await page.locator(".sessions tbody tr").first().getByText("newcomer@example.org").waitFor();
  }));

  it("and leaves focus and what is typed alone", () => withPage(scenarios.calm, async (page, fake) => {
    const drain = page.getByRole("button", { name: "Drain mail2" });
    await drain.focus();
    fake.change((state) => Object.assign(state.backends[1], { up: false, sessions: 1 }));
    await page.locator(".backends tbody tr").first().getByText("mail2", { exact: true }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Drain mail2");
    await page.getByLabel("Where does this user go").fill("half a na");
    fake.change((state) => Object.assign(state.backends[1], { up: true }));
    await page.locator("#problems li").waitFor({ state: "detached" });
    assert.equal(await page.getByLabel("Where does this user go").inputValue(), "half a na");
  }));

  it("the newest sessions are drawn, and the others found", () => withPage(scenarios.crowd, async (page) => {
    await page.locator(".sessions tbody tr").nth(24).waitFor();
    assert.equal(await page.locator(".sessions tbody tr").count(), 25);
    assert.equal(await page.locator("#sessions-note").innerText(), "5,000 sessions");
    await page.getByRole("button", { name: "Show 175 more" }).click();
    await page.locator(".sessions tbody tr").nth(199).waitFor();
    await page.getByRole("searchbox", { name: "User" }).fill("user477?@example.org");
    await page.locator("#sessions-note", { hasText: "10 sessions of user477?@example.org" }).waitFor();
    await page.getByRole("searchbox", { name: "User" }).fill("user477");
    await page.locator("#sessions-note", { hasText: "11 sessions of *user477*" }).waitFor();
    await page.getByRole("searchbox", { name: "User" }).fill("user477@example.org");
    await page.locator("#sessions-note", { hasText: "1 session of user477@example.org" }).waitFor();
  }));
});

describe("a backend is drained", () => {
  it("with the keyboard alone, a reason, and JSON", () => withPage(scenarios.calm, async (page, fake) => {
    await page.getByRole("button", { name: "Drain mail2" }).focus();
    await page.keyboard.press("Enter");
    const dialog = page.getByRole("dialog", { name: "Drain mail2?" });
    await dialog.waitFor();
    assert.match(await dialog.innerText(), /Its 398 sessions stay/);
    await page.keyboard.press("Enter"); // without a reason
    assert.deepEqual(fake.posts, []);
    await page.keyboard.type("kernel update");
    await page.keyboard.press("Enter");
    await dialog.waitFor({ state: "hidden" });
    const [post] = fake.posts;
    assert.equal(post.path, "/v1/backends/mail2/drain");
    assert.deepEqual(post.body, { why: "kernel update" });
    assert.equal(post.headers["content-type"], "application/json");
    assert.equal(post.headers["sec-fetch-site"], "same-origin");
    assert.equal(fake.posts.length, 1);
    await page.locator("#backend-mail2").getByText("Draining").waitFor();
    await page.locator("#changes").getByText("kernel update").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.tagName), "BUTTON");
  }));

  it("not when Escape is pressed", () => withPage(scenarios.calm, async (page, fake) => {
    await page.getByRole("button", { name: "Maint mail1" }).click();
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    assert.deepEqual(fake.posts, []);
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Maint mail1");
  }));

  it("with a deadline and an end", () => withPage(scenarios.calm, async (page, fake) => {
    await page.getByRole("button", { name: "Drain mail1" }).click();
    await page.getByLabel("Reason").fill("disk");
    await page.getByLabel("Move who is left").selectOption("in 1 hour");
    await page.getByLabel("Make it ready again").selectOption("in 4 hours");
    await page.getByRole("button", { name: "Drain", exact: true }).last().click();
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    const { body } = fake.posts[0];
    const inHours = (t) => Math.round((Date.parse(t) - Date.now()) / 3_600_000);
    assert.equal(inHours(body.deadline), 1);
    assert.equal(inHours(body.until), 4);
  }));

  it("and when that is refused the dialog stays and says why", () => withPage(scenarios.calm, async (page, fake) => {
    fake.refuse = { code: 500, error: "changes are not saved", details: ["no space left on device"] };
    await page.getByRole("button", { name: "Drain mail1" }).click();
    await page.getByLabel("Reason").fill("disk");
    await page.keyboard.press("Enter");
    await page.locator("#action-error").getByText("changes are not saved").waitFor();
    assert.match(await page.locator("#action-error").innerText(), /no space left on device/);
    await page.getByRole("button", { name: "Drain", exact: true }).last().click(); // again
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    assert.equal(fake.posts.length, 2);
  }, { allowed: [/status of 500/] }));
});

describe("sessions are kicked", () => {
  it("and whoever does not wait for the end hears of it", () => withPage(scenarios.calm, async (page, fake) => {
    let go;
    fake.wait = new Promise((resolve) => {
      go = resolve;
    });
    await page.locator(".sessions tbody tr").first().getByRole("button", { name: /^Kick/ }).click();
    await page.getByLabel("Reason").fill("slowly");
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Kick", exact: true, disabled: true }).waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByRole("button", { name: "Drain mail1" }).click();
    go();
    await page.locator("#done").getByText("told to end").waitFor();
    assert.equal(await page.getByRole("dialog", { name: "Drain mail1?" }).isVisible(), true);
  }));

  it("one by its id", () => withPage(scenarios.calm, async (page, fake) => {
    const [first] = fake.state.sessions;
    await page.locator(".sessions tbody tr").first().getByRole("button", { name: /^Kick/ }).click();
    await page.getByLabel("Reason").fill("stolen password");
    await page.getByRole("button", { name: "Kick", exact: true }).last().click();
    await page.getByRole("status").getByText("told to end").waitFor();
    assert.deepEqual(fake.posts.map((p) => [p.path, p.body]), [["/v1/kick", { id: first.id, why: "stolen password" }]]);
  }));

  it("all that a search found, and only after a search", () => withPage(scenarios.calm, async (page, fake) => {
    await page.locator(".sessions tbody tr").first().waitFor();
    assert.equal(await page.locator("#kick-found").isVisible(), false);
    await page.getByRole("button", { name: "18 sessions of archive: show" }).click();
    await page.getByRole("button", { name: "Kick 18 sessions" }).click();
    await page.getByRole("dialog", { name: "Kick 18 sessions on archive?" }).waitFor();
    await page.getByLabel("Reason").fill("moving house");
    await page.getByRole("button", { name: "Kick 18", exact: true }).click();
    await page.getByText("No session matches.").waitFor();
    assert.deepEqual(fake.posts[0].body, { backend: "archive", why: "moving house", rate: 20 });
    await page.getByRole("button", { name: "Clear" }).click();
    await page.locator("#sessions-note", { hasText: "1,241 sessions" }).waitFor();
  }));
});

describe("a lookup", () => {
  it("says where a user goes, why, and what else was considered", () => withPage(scenarios.night, async (page) => {
    await page.getByLabel("Where does this user go").fill("Carol@Example.org");
    await page.keyboard.press("Enter");
    const answer = page.locator("#answer");
    await answer.getByText("users.map:48102").waitFor();
    assert.match(await answer.innerText(), /carol@example\.org goes to mail1/);
    assert.deepEqual(await texts(answer.locator("tbody th")), [
      "1. mail3\nweight 100 · not used: drain", "2. mail2\nweight 100 · not used: down", "3. mail1\nweight 50", "4. mail4\nweight 100 · not used: maint",
    ]);
  }));

  it("says that there is no such user", () => withPage(scenarios.calm, async (page) => {
    await page.getByLabel("Where does this user go").fill("nobody@example.net");
    await page.keyboard.press("Enter");
    await page.locator("#answer .error").waitFor();
  }, { allowed: [/status of 404/] }));

  it("holds and moves the user it found", () => withPage(scenarios.calm, async (page, fake) => {
    await page.getByLabel("Where does this user go").fill("carol@example.org");
    await page.keyboard.press("Enter");
    await page.locator("#answer").getByRole("button", { name: "Hold" }).click();
    await page.getByLabel("Reason").fill("mailbox repair");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    await page.locator("#answer").getByRole("button", { name: "Move" }).click();
    await page.getByLabel("Reason").fill("full disk");
    await page.getByLabel("To", { exact: true }).selectOption("archive");
    await page.locator("#action-confirm").click();
    await page.getByText("goes to archive").waitFor();
    assert.deepEqual(fake.posts.map((p) => p.path), ["/v1/users/carol%40example.org/hold", "/v1/users/carol%40example.org/move"]);
    assert.equal(fake.posts[1].body.backend, "archive");
  }));
});

describe("names that are markup", () => {
  it("are shown as they are", () => withPage(scenarios.hostile, async (page) => {
    await page.locator(".sessions tbody tr").first().waitFor();
    assert.equal(await page.locator("main img").count(), 0);
    assert.equal(await page.getByText("<img src=x onerror=alert(1)>").count() > 3, true);
    for (const size of [desktop, phone]) {
      await page.setViewportSize(size);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, "something is wider than the page");
    }
  }));
});
