"""Checks of the admin page for those who use a keyboard, a screen reader, or need contrast; `admin_page.py` runs them."""

import json
import time

TAB, SHIFT, ENTER, SPACE, ESCAPE = "\ue004", "\ue008", "\ue007", " ", "\ue00c"
LEFT, RIGHT, HOME, END = "\ue012", "\ue014", "\ue011", "\ue010"
MOST_TABS = 80
LEAST_CONTRAST = 4.5
ROWS = "document.querySelectorAll('#panel-{} tbody tr:not(.story)')"


def begin(browser, tab="live"):
    browser.run("document.querySelector('dialog')?.close(); document.querySelector('#filters').reset()")
    browser.run(f"document.querySelector('#tab-{tab}').click(); document.activeElement.blur(); scrollTo(0, 0)")
    browser.wait_for(f"{ROWS.format(tab)}.length > 1", "rows")


def focus(browser, selector):
    """As if a key had brought the focus there."""
    browser.run("document.querySelector(arguments[0]).focus({ focusVisible: true })", selector)


def has_focus(browser, selector, after):
    browser.wait_for("document.activeElement.matches(arguments[0])", f"the focus on {selector} after {after}", selector)


def tab_to(browser, selector):
    """Presses Tab until the focus is there. What has the focus is visible, and says so."""
    for _ in range(MOST_TABS):
        browser.press(TAB)
        seen = browser.run("""const element = document.activeElement, style = getComputedStyle(element);
            if (element === document.body) return null;
            if (!element.checkVisibility({ visibilityProperty: true })) return `hidden: ${element.outerHTML.slice(0, 120)}`;
            const marked = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
            return marked || element.matches('#connections') ? null : `without a mark: ${element.outerHTML.slice(0, 120)}`""")
        assert seen is None, f"the focus is {seen}"
        if browser.run("return document.activeElement.matches(arguments[0])", selector):
            return
    raise AssertionError(f"Tab does not reach {selector}")


def tabs_and_rows_by_keyboard(browser, gate, _):
    # The first one that Tab reaches in a page leads past the rest.
    browser.open(gate.url)
    begin(browser)
    tab_to(browser, "a.skip")
    browser.press(ENTER)
    has_focus(browser, "#connections", "the link that skips")
    tab_to(browser, "#tab-live")
    for key, tab, other in [(RIGHT, "ended", "live"), (LEFT, "live", "ended"), (END, "ended", "live"), (HOME, "live", "ended")]:
        browser.press(key)
        has_focus(browser, f"#tab-{tab}[aria-selected=true]", "an arrow")
        assert browser.run(f"return !document.querySelector('#panel-{tab}').hidden && document.querySelector('#panel-{other}').hidden")
    # The tabs are one stop.
    browser.press(TAB)
    has_focus(browser, "#search", "Tab on the tabs")
    browser.press(SHIFT, TAB)
    has_focus(browser, "#tab-live", "Shift+Tab")

    tab_to(browser, "#panel-live th.age button")
    browser.press(ENTER)
    browser.wait_for("document.querySelector('#panel-live th.age').ariaSort === 'descending'", "the order by age")
    tab_to(browser, "#panel-live tbody th button")
    browser.press(ENTER)
    has_focus(browser, "#panel-live tbody th button[aria-expanded=true]", "Enter on a row")
    browser.wait_for("document.querySelector('#panel-live .story').checkVisibility()", "its story")
    tab_to(browser, "#panel-live .story button")
    browser.press(ENTER)
    browser.wait_for("document.querySelector('dialog')?.contains(document.activeElement) || !document.querySelector('#toast').hidden",
                     "the question for the token, or the end of the connection")
    browser.press(ESCAPE)
    browser.wait_for("!document.querySelector('dialog')", "the end of the dialog")
    # The connection may have ended before.
    errors = browser.console()
    assert all("404" in error for error in errors), errors
    # By itself, Space scrolls.
    begin(browser)
    tab_to(browser, "#panel-live tbody th button")
    before = browser.run("return [document.activeElement.ariaExpanded, scrollY]")
    browser.press(SPACE)
    browser.wait_for("document.activeElement.ariaExpanded !== arguments[0]", "Space on a row", before[0])
    assert browser.run("return scrollY") == before[1]
    for key in (SPACE, ENTER):
        name = browser.run("return document.querySelector('#plot-endings .legend button').textContent")
        focus(browser, "#plot-endings .legend button")
        browser.press(key)
        browser.wait_for("document.querySelector('#tab-ended').ariaSelected === 'true'", f"the ended ones of {name}")
        begin(browser)
    focus(browser, "#plot-bytes summary")
    browser.press(ENTER)
    browser.wait_for("document.querySelector('#plot-bytes details').open", "the table of a plot")
    browser.press(SPACE)
    browser.wait_for("!document.querySelector('#plot-bytes details').open", "no table of a plot")


def dialogs_by_keyboard(browser, *_):
    """The focus is in the dialog, stays there, and returns to the button that has opened it."""
    begin(browser)
    for opener in ["#explain", "#drain", "#reload", "[aria-label='Limit web']"]:
        for key in (ENTER, SPACE):
            focus(browser, opener)
            browser.press(key)
            browser.wait_for("document.querySelector('dialog')?.contains(document.activeElement)", f"the focus in the dialog of {opener}")
            stops = set()
            for _ in range(15):
                browser.press(TAB)
                # Between the last and the first one, it is on the browser itself.
                where = browser.run("""const element = document.activeElement;
                    return element === document.body || element === document.querySelector('dialog') ? '' :
                      document.querySelector('dialog').contains(element) ? element.name || element.textContent : null""")
                assert where is not None, f"the focus has left the dialog of {opener}"
                stops.add(where)
            assert len(stops - {""}) >= 2, f"{opener}: {stops}"
            browser.press(ESCAPE)
            browser.wait_for("!document.querySelector('dialog')", "the end of the dialog")
            has_focus(browser, opener, "Escape")


# What is operated, or begins a part of the page.
NAMED = {"button", "link", "tab", "textbox", "searchbox", "combobox", "checkbox", "spinbutton", "DisclosureTriangle",
         "MenuListPopup", "option", "dialog", "table", "columnheader", "rowheader", "tablist", "tabpanel", "region", "search"}


def each_control_has_a_name(browser, *_):
    count = 0
    for where in states(browser):
        nodes = browser.devtools("Accessibility.getFullAXTree")["nodes"]
        shown = [node for node in nodes if not node["ignored"]]

        def is_focusable(node):
            return any(it["name"] == "focusable" and it["value"].get("value") for it in node.get("properties", []))

        def name(node):
            return node.get("name", {}).get("value", "").strip()
        relevant = [it for it in shown if it["role"]["value"] in NAMED or (is_focusable(it) and it["role"]["value"] != "RootWebArea")]
        nameless = [browser_text(browser, it) for it in relevant if not name(it) and it["role"]["value"] != "MenuListPopup"]
        assert not nameless, f"{where}: without a name: {nameless[:3]}"
        # What is listed beside each other is told apart.
        buttons = [name(it) for it in relevant if it["role"]["value"] == "button"]
        twice = {it for it in buttons if buttons.count(it) > 1 and it.split()[0] in ("Close", "Drain", "Pause", "Limit")}
        twice -= {"Close"}  # of two stories
        assert not twice, f"{where}: {twice}"
        assert len(relevant) >= 3, f"{where}: {len(relevant)}"
        count += len(relevant)
    return f"{count} controls and parts"


def browser_text(browser, node):
    described = browser.devtools("DOM.describeNode", backendNodeId=node["backendDOMNodeId"])["node"]
    return f"{node['role']['value']} {described['nodeName']} {described.get('attributes')}"


def states(browser):
    """What the page may show, one after the other, each with its name."""
    for tab in ("live", "ended"):
        begin(browser, tab)
        story = f"document.querySelector('#panel-{tab} .story')"
        # Again, if the list of another filter arrives after the click.
        browser.wait_for(f"{story}?.checkVisibility() || document.querySelector('#panel-{tab} tbody th button').click()", "a story")
        time.sleep(0.5)
        browser.wait_for(f"{story}?.checkVisibility() || document.querySelector('#panel-{tab} tbody th button').click()", "a story")
        yield f"the {tab} ones"
    browser.run("document.querySelector('#plot-bytes summary').click()")
    browser.run("document.querySelector('#plot-endings .legend button').click()")
    yield "a plot's table, and an outcome that is chosen"
    browser.run("document.querySelector('#plot-bytes summary').click()")
    begin(browser)
    # For a moment, as if there were no answer, and a connection had ended in a list that is held.
    browser.run("""document.body.classList.add('stale');
        document.querySelector('#panel-live tbody tr:not(.story)').classList.add('gone');
        for (const id of ['lost', 'toast']) document.getElementById(id).hidden = false;
        document.getElementById('lost').textContent = 'No answer';
        document.getElementById('toast').textContent = 'It is closed';""")
    yield "without an answer"
    browser.run("for (const id of ['lost', 'toast']) document.getElementById(id).hidden = true; document.body.classList.remove('stale')")
    for opener in ["#explain", "#drain", "#reload", "[aria-label='Limit web']"]:
        browser.run("document.querySelector(arguments[0]).click()", opener)
        browser.wait_for("document.querySelector('dialog')", f"the dialog of {opener}")
        if opener == "#explain":
            browser.run("document.querySelector('dialog [name=from]').value = '127.0.0.1'")
            browser.run("document.querySelector('dialog [value=confirm]').click()")
            browser.wait_for("document.querySelector('.explained .guards')", "an explanation")
        yield f"the dialog of {opener}"
        browser.run("document.querySelector('dialog').close()")


# Texts with the colour behind them: pairs of what is wrong and its ratio. Controls that are disabled need no contrast.
CONTRASTS = """
const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
const parsed = new Map();
const parse = (color) => {
  if (!parsed.has(color)) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    parsed.set(color, [r, g, b, a / 255]);
  }
  return parsed.get(color);
};
const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
const chain = (element) => element ? [element, ...chain(element.parentElement)] : [];
const behind = (element) => chain(element).reverse().reduce((color, it) => over(parse(getComputedStyle(it).backgroundColor), color), parse('Canvas'));
const luminance = (color) => {
  const [r, g, b] = color.map((it) => it / 255).map((it) => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (element, color) => {
  const ground = behind(element);
  const [r, g, b, a] = parse(color);
  const opacity = chain(element).reduce((product, it) => product * getComputedStyle(it).opacity, 1);
  const [one, other] = [luminance(over([r, g, b, a * opacity], ground)), luminance(ground)];
  return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
};
const found = [];
let count = 0;
const look = (element, text, color) => {
  if (!element.checkVisibility({ visibilityProperty: true }) || element.closest(':disabled, .unseen, .skip')) return;
  count += 1;
  const value = ratio(element, color);
  if (value < arguments[0]) found.push([`"${text.slice(0, 40)}" of ${element.tagName}.${element.className} in ${element.parentElement.className}`, Math.round(value * 100) / 100]);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const { parentElement: element, textContent: text } = walker.currentNode;
  if (text.trim() && !element.closest('script, noscript, option')) look(element, text.trim(), getComputedStyle(element).color);
}
for (const element of document.querySelectorAll('input, select')) {
  look(element, element.value || element.name, getComputedStyle(element).color);
  if (element.placeholder) look(element, element.placeholder, getComputedStyle(element, '::placeholder').color);
}
return [count, found];
"""


def texts_have_contrast(browser, *_):
    count, faint = 0, {}
    for scheme in ("light", "dark"):
        browser.show_as(1280, scheme)
        for where in states(browser):
            texts, found = browser.run(CONTRASTS, LEAST_CONTRAST)
            count += texts
            for text, ratio in found:
                faint.setdefault(f"{scheme}, {where}", {})[text] = ratio
    browser.show_as(1280, "light")
    assert not faint, json.dumps({where: dict(list(texts.items())[:6]) for where, texts in faint.items()}, indent=1)
    return f"{count} texts"


CHECKS = [tabs_and_rows_by_keyboard, dialogs_by_keyboard, each_control_has_a_name, texts_have_contrast]
