/* A blind sheet in a browser: an order for each rater, keys, and answers that stay here until they are exported.
   A classic script, so that it works by double click; data only ever become text and attributes. */
"use strict";
(() => {
  const sheet = window.sheet;
  const byId = (id) => document.getElementById(id);
  const radios = (name) => Array.from(document.querySelectorAll(`input[name=${name}]`));
  let rater = "";
  let order = [];
  let at = 0;
  let answers = {};

  /* The same order for the same rater, another for each: a shuffle by a small generator (mulberry32). */
  function orderOf(name) {
    let state = 0;
    for (const letter of `${sheet.name} ${name}`) state = (Math.imul(state, 31) + letter.codePointAt(0)) | 0;
    const random = () => {
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
    const numbers = sheet.items.map((_, i) => i + 1);
    for (let i = numbers.length - 1; i > 0; i -= 1) {
      const j = Math.floor(random() * (i + 1));
      [numbers[i], numbers[j]] = [numbers[j], numbers[i]];
    }
    return numbers;
  }

  const key = () => `sae-traits review of ${sheet.name} by ${rater}`;
  const isDone = (number) => Boolean(answers[number]?.verdict && answers[number]?.score);
  function kept() {
    try {
      return JSON.parse(localStorage.getItem(key())) ?? {};
    } catch {
      return {};
    }
  }

  function show() {
    const number = order[at];
    const item = sheet.items[number - 1];
    const [width, height] = item.size;
    byId("place").textContent = `${at + 1} of ${order.length}`;
    byId("picture").src = `pictures/${number}.webp`;
    byId("frame").style.setProperty("--ratio", width / height);
    byId("over").setAttribute("viewBox", `0 0 ${width} ${height}`);
    byId("close-up").setAttribute("viewBox", item.view.join(" "));
    for (const path of document.querySelectorAll(".region path")) path.setAttribute("d", item.outline);
    for (const [name, value] of Object.entries({ href: `pictures/${number}.webp`, width, height }))
      byId("close-up-image").setAttribute(name, value);
    byId("rights").textContent = item.rights;
    byId("sentence").textContent = item.text;
    for (const name of ["score", "verdict"])
      for (const radio of radios(name)) radio.checked = String(answers[number]?.[name] ?? "") === radio.value;
    byId("previous").disabled = at === 0;
    byId("next").disabled = at === order.length - 1;
    say();
  }

  function say(problem = "") {
    const n = order.filter(isDone).length;
    byId("progress").textContent = problem || (n === order.length ? "All answered: export them below." : `${n} answered`);
  }

  function answer(name, value) {
    const number = order[at];
    answers[number] = { ...answers[number], [name]: name === "score" ? Number(value) : value };
    for (const radio of radios(name)) radio.checked = radio.value === String(value);
    try {
      localStorage.setItem(key(), JSON.stringify(answers));
      say();
    } catch {
      say("This browser keeps nothing: export before you leave.");
    }
  }

  function go(step) {
    at = Math.min(Math.max(at + step, 0), order.length - 1);
    show();
    byId("place").focus(); /* so that a screen reader says where one is, and no radio button keeps the keys */
  }

  function begin(event) {
    event.preventDefault();
    rater = byId("rater").value.trim().replace(/\s+/g, " ");
    if (!rater) return;
    answers = kept();
    order = orderOf(rater);
    at = Math.max(order.findIndex((number) => !isDone(number)), 0);
    byId("beginning").hidden = true;
    byId("rating").hidden = false;
    go(0);
  }

  function exported() {
    const text = JSON.stringify({ format: "sae-traits review", sheet: sheet.name, rater, ratings: answers }, null, 2);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `${sheet.name}-${rater.replace(/[^\p{L}\p{N}]+/gu, "-")}.json`;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function pressed(event) {
    const target = event.target;
    if (byId("rating").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    const pressedKey = event.key.toLowerCase();
    const isButton = target.tagName === "BUTTON"; /* which Enter presses */
    if (/^[1-5]$/.test(pressedKey)) answer("score", pressedKey);
    else if (pressedKey === "a") answer("verdict", "accepted");
    else if (pressedKey === "r") answer("verdict", "rejected");
    else if (pressedKey === "n" || (pressedKey === "enter" && !isButton)) go(1);
    else if (pressedKey === "p") go(-1);
    else return;
    event.preventDefault();
  }

  byId("who").hidden = false;
  byId("who").addEventListener("submit", begin);
  for (const name of ["score", "verdict"])
    for (const radio of radios(name)) radio.addEventListener("change", () => answer(name, radio.value));
  byId("answers").addEventListener("submit", (event) => event.preventDefault());
  byId("previous").addEventListener("click", () => go(-1));
  byId("next").addEventListener("click", () => go(1));
  byId("export").addEventListener("click", exported);
  document.addEventListener("keydown", pressed);
})();
