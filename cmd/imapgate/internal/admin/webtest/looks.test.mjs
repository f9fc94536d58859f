// How the page looks: on a desk and on a phone, by day and by night, to people
// and to screen readers. SCREENSHOTS names a directory for pictures of it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import { Browser, desktop, phone, screenshot, withPage as inBrowser } from "./browser.mjs";
import * as scenarios from "./scenarios.mjs";

const axe = readFileSync(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8");

const browser = new Browser();
before(() => browser.start());
after(() => browser.close());

const withPage = (scenario, options, test) => inBrowser(browser, scenario, options, test);

// complaintsOf asks axe for what WCAG 2.2 AA does not allow.
async function complaintsOf(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  }));
  return violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.html.slice(0, 120)} ${n.failureSummary}`)).join("\n");
}

for (const scenario of ["night", "calm", "fresh"]) {
  for (const [sizeName, size] of Object.entries({ desktop, phone })) {
    for (const dark of [false, true]) {
      const name = `${scenario}-${sizeName}-${dark ? "dark" : "light"}`;
      it(`${name} is accessible and as wide as its window`, () => withPage(scenarios[scenario], { size, dark }, async (page, fake) => {
        for (let i = 0; i < 20; i++) {
          fake.change(({ status }) => {
            status.logins_per_second *= 1 + Math.sin(i * 1.7) / 3;
          });
        }
        await page.locator("#ask-user").fill("carol@example.org");
        await page.getByRole("button", { name: "Look up" }).click();
        await page.locator("#answer tbody").waitFor();
        await page.evaluate(() => {
          document.activeElement.blur();
          scrollTo(0, 0);
        });
        await page.mouse.move(0, 0);
        await screenshot(page, name);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), size.width);
        assert.equal(await complaintsOf(page), "");
      }));
    }
  }
}

describe("dialogs and the lost connection", () => {
  for (const [sizeName, size] of Object.entries({ desktop, phone })) {
    for (const dark of [false, true]) {
      it(`are accessible on a ${sizeName}, ${dark ? "dark" : "light"}`, () => withPage(scenarios.night, {
        size, dark, token: "correct horse battery", allowed: [/status of 401/, /net::ERR_/, /Failed to load/],
      }, async (page, fake) => {
        const suffix = `${sizeName}-${dark ? "dark" : "light"}`;
        await page.getByRole("dialog").waitFor();
        assert.equal(await complaintsOf(page), "");
        await screenshot(page, `token-${suffix}`, { fullPage: false });
        await page.getByRole("textbox", { name: "Token" }).fill(fake.token);
        await page.keyboard.press("Enter");
        await page.getByRole("button", { name: "Drain mail1" }).click();
        await page.getByLabel("Reason").fill("kernel update");
        assert.equal(await complaintsOf(page), "");
        await screenshot(page, `drain-${suffix}`, { fullPage: false });
        await page.keyboard.press("Escape");
        await fake.stop();
        await page.getByRole("alert").getByText("Not connected").waitFor();
        await page.evaluate(() => scrollTo(0, 0));
        await screenshot(page, `offline-${suffix}`, { fullPage: false });
      }));
    }
  }
});

for (const scenario of ["night", "hostile"]) {
  it(`${scenario}: nothing is wider than its part of the page, at any width`, () => withPage(scenarios[scenario], {}, async (page) => {
    await page.locator(".sessions tbody tr").first().waitFor();
    await page.locator("#ask-user").fill("carol@example.org");
    await page.getByRole("button", { name: "Look up" }).click();
    await page.locator("#answer tbody").waitFor();
    for (const width of [320, 390, 480, 600, 768, 927, 928, 1024, 1280, 1343, 1344, 1600, 2560]) {
      await page.setViewportSize({ width, height: 800 });
      const wider = await page.evaluate(() => [...document.querySelectorAll("main section")].flatMap((section) => {
        const { right } = section.getBoundingClientRect();
        return [...section.querySelectorAll("*")]
          .filter((node) => node.checkVisibility() && !node.closest(".hidden, pre, .cards thead") && node.getBoundingClientRect().right > right + 1)
          .map((node) => `${section.id}: ${node.outerHTML.slice(0, 80)}`);
      }));
      assert.deepEqual(wider, [], `at ${width} pixels`);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
    }
  }));
}

it("every control can be reached with the keyboard, and shows that it was", () => withPage(scenarios.night, {}, async (page) => {
  await page.locator(".sessions tbody tr").first().waitFor();
  const wanted = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, select, a[href]")].filter((node) => node.checkVisibility() && !node.disabled).length);
  const reached = new Set();
  for (let i = 0; i < 2 * wanted; i++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const node = document.activeElement;
      if (node === document.body) return null;
      globalThis.seen ??= new Map();
      if (!globalThis.seen.has(node)) globalThis.seen.set(node, globalThis.seen.size);
      const style = getComputedStyle(node);
      return { id: globalThis.seen.get(node), control: node.matches("button, input, select, a[href]"), visible: style.outlineStyle !== "none", html: node.outerHTML.slice(0, 100) };
    });
    if (!at) break;
    assert.ok(at.visible, `no visible focus: ${at.html}`);
    if (at.control) reached.add(at.id);
  }
  assert.equal(reached.size, wanted);
}));
