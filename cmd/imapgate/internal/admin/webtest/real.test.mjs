// The page of a real imapgate: what is clicked is what happens, and what happens
// is what is seen.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { Browser, screenshot } from "./browser.mjs";
import { Fake, policy } from "./fake.mjs";
import { Proxy } from "./proxy.mjs";
import * as scenarios from "./scenarios.mjs";

const browser = new Browser();
const proxy = new Proxy();
let page;

before(async () => {
  await Promise.all([browser.start(), proxy.start()]);
  page = await browser.open(proxy.url);
  await page.locator("#link[data-kind=live]").waitFor();
});
after(async () => {
  await browser.close();
  await proxy.stop();
});

const state = (name) => page.locator(`#backend-${name} .state`);

describe("the page of a running imapgate", () => {
  it("comes with the policy that the other tests have", async () => {
    const response = await fetch(proxy.url);
    assert.equal(response.headers.get("content-security-policy"), policy);
    assert.equal(response.headers.get("x-content-type-options"), "nosniff");
  });

  it("shows a new session without a reload, and that it ends", async () => {
    await page.getByText("Nobody is logged in.").waitFor();
    const alice = await proxy.login("alice@example.org");
    const row = page.locator(".sessions tbody tr", { hasText: "alice@example.org" });
    await row.waitFor();
    assert.match(await row.innerText(), /mail1[^]*127\.0\.0\.1:\d+/);
    await page.locator("#backend-mail1").getByRole("button", { name: "1 session of mail1: show" }).waitFor();
    alice.end("b LOGOUT\r\n");
    await row.waitFor({ state: "detached" });
  });

  it("drains a backend by click, as imapgate backends says", async () => {
    assert.equal((await proxy.backends()).mail2.admin, "ready");
    await page.getByRole("button", { name: "Drain mail2" }).click();
    await page.getByLabel("Reason").fill("kernel update");
    await page.getByRole("button", { name: "Drain", exact: true }).last().click();
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    const { mail2 } = await proxy.backends();
    assert.equal(mail2.admin, "drain");
    assert.equal(mail2.admin_change.why, "kernel update");
    await state("mail2").getByText("Drained").waitFor();
    await page.locator("#changes").getByText("kernel update").waitFor();
  });

  it("makes it ready again, and sees what a command does", async () => {
    await page.getByRole("button", { name: "Ready mail2" }).first().click();
    await page.getByLabel("Reason").fill("done");
    await page.keyboard.press("Enter");
    await state("mail2").getByText("Ready", { exact: true }).waitFor();
    assert.equal((await proxy.backends()).mail2.admin, "ready");
    await proxy.command("maint", "mail1", "--why", "disk");
    await state("mail1").getByText("Maintenance").waitFor();
    await proxy.command("ready", "mail1");
    await state("mail1").getByText("Ready", { exact: true }).waitFor();
  });

  it("kicks a session with a BYE", async () => {
    const bob = await proxy.login("bob@example.org");
    await page.getByRole("button", { name: /^Kick bob@example\.org from/ }).click();
    await page.getByLabel("Reason").fill("stolen password");
    await page.getByRole("button", { name: "Kick", exact: true }).last().click();
    await proxy.until("a BYE", () => /^\* BYE/m.test(bob.seen()));
    await page.locator(".sessions tbody tr", { hasText: "bob@example.org" }).waitFor({ state: "detached" });
  });

  it("looks a user up", async () => {
    await page.getByLabel("Where does this user go").fill("Alice");
    await page.keyboard.press("Enter");
    await page.locator("#answer").getByText("users.map:1").waitFor();
    assert.match(await page.locator("#answer").innerText(), /alice@example\.org goes to mail1/);
  });

  it("shows certificates, and why a reload was refused", async () => {
    await page.locator("#certificates").getByText("imap.example.org").waitFor();
    writeFileSync(join(proxy.dir, "users.map"), "alice@example.org mail3\n* shared\n");
    await page.locator("#problems").getByText("The last reload of the table was refused").waitFor();
    await page.locator("#reloads pre").getByText("mail3").waitFor();
    writeFileSync(join(proxy.dir, "users.map"), "alice@example.org mail1\n* shared\n");
    await page.locator("#problems").getByText("The last reload of the table was refused").waitFor({ state: "detached" });
  });

  it("says first which backend is down, and why", async () => {
    await proxy.mail2.stop();
    await page.locator("#problems").getByText("mail2 is down").waitFor();
    assert.match(await page.locator("#backend-mail2 .why").innerText(), /connect/);
    assert.equal(await page.locator(".backends tbody tr").first().getAttribute("id"), "backend-mail2");
    await screenshot(page, "real-down");
    await proxy.mail2.start(proxy.mail2.port);
    await page.locator("#problems").getByText("mail2 is down").waitFor({ state: "detached" });
  });

  it("had no complaints and asked nobody else", () => page.check());
});

it("a token protects a real one, too", async () => {
  const guarded = await new Proxy().start({ token: "correct-horse-battery" });
  let locked;
  try {
    locked = await browser.open(guarded.url, { allowed: [/status of 401/] });
    await locked.getByRole("textbox", { name: "Token" }).fill(guarded.token);
    await locked.keyboard.press("Enter");
    await locked.locator("#link[data-kind=live]").waitFor();
    await locked.getByRole("button", { name: "Drain mail1" }).click();
    await locked.getByLabel("Reason").fill("disk");
    await locked.keyboard.press("Enter");
    await locked.locator("#changes").getByText("by web").waitFor();
    locked.check();
  } finally {
    await locked?.close();
    await guarded.stop();
  }
});

it("the canned answers of the other tests say only what the API says", async () => {
  const spec = await readFile(new URL("../openapi.yaml", import.meta.url), "utf8");
  const names = new Set();
  const collect = (value, map = false) => {
    if (Array.isArray(value)) for (const one of value) collect(one);
    else if (value && typeof value === "object") {
      for (const [name, inner] of Object.entries(value)) {
        if (!map) names.add(name);
        collect(inner, name === "shares" || name === "routes");
      }
    }
  };
  for (const scenario of ["calm", "night", "fresh"]) {
    const { routes, ...rest } = new Fake(scenarios[scenario]()).state;
    collect(rest);
    Object.values(routes).forEach((route) => collect(route));
  }
  assert.deepEqual([...names].filter((name) => !new RegExp(`\\b${name}:`).test(spec)), []);
});
