/* The atlas in a browser: toggles, search, comparison and names. Classic scripts alone, so that it works by double click;
   data only ever become text (textContent) and attributes of elements made here. */
"use strict";
window.atlas = { species: {}, suggested: {} };
(() => {
  const root = document.documentElement.dataset.root;
  const sae = document.documentElement.dataset.sae;
  const SVG = "http://www.w3.org/2000/svg";
  const byId = (id) => document.getElementById(id);
  const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

  /* An element with attributes and children; strings become text. */
  function make(name, attributes = {}, ...children) {
    const svg = ["svg", "path", "g", "image", "text"].includes(name);
    const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(key, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  const loading = {};
  function load(name) {
    loading[name] ??= new Promise((resolve, reject) => {
      const script = make("script", { src: `${root}data/${name}.js` });
      script.onload = resolve;
      script.onerror = () => reject(new Error(`data/${name}.js is missing from this atlas`));
      document.head.append(script);
    });
    return loading[name];
  }

  /* Regions: one checkbox for all, a button per trait, and the one in focus stands out. */
  function initRegions(within) {
    for (const tools of all(".tools", within)) tools.hidden = false;
    for (const [attribute, name] of [["data-show-regions", "no-regions"], ["data-show-labels", "no-labels"]])
      for (const box of all(`[${attribute}]`, within))
        box.addEventListener("change", () => document.documentElement.classList.toggle(name, !box.checked));
    for (const item of all(".traits > li", within)) {
      const chip = item.querySelector(".chip");
      const holder = item.closest("figure") ?? item.closest(".specimen");
      const region = holder.querySelector(`.region[data-region="${item.dataset.region}"]`);
      const button = make("button", { type: "button", class: chip.className, "aria-pressed": "true" }, chip.textContent);
      button.setAttribute("aria-label", `Region ${chip.textContent}`);
      button.addEventListener("click", () => {
        const shown = region.classList.toggle("off");
        button.setAttribute("aria-pressed", String(!shown));
      });
      const focus = (on) => () => {
        holder.classList.toggle("has-focus", on);
        region.classList.toggle("focus", on);
      };
      item.addEventListener("mouseenter", focus(true));
      item.addEventListener("mouseleave", focus(false));
      button.addEventListener("focus", focus(true));
      button.addEventListener("blur", focus(false));
      chip.replaceWith(button);
    }
  }

  /* A photograph with outlines, or a close-up of it. */
  function picture(shown, alternative) {
    const [width, height] = shown.size;
    const regions = shown.regions.map((d, i) => make("g", { class: `region r${i % 6}` }, make("path", { d })));
    const rights = make("small", { class: "rights" }, shown.rights);
    if (shown.view) {
      const image = shown.src && make("image", { href: root + shown.src, width, height });
      const svg = make("svg", { class: "close-up", viewBox: shown.view.join(" "), role: "img", "aria-label": alternative });
      svg.append(...[image, ...regions].filter(Boolean));
      return make("div", {}, make("a", { href: root + shown.page }, svg), rights);
    }
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...regions);
    const image = shown.src && make("img", { src: root + shown.src, width, height, alt: alternative, loading: "lazy" });
    const frame = make("div", { class: shown.src ? "frame" : "frame empty" }, image || null, svg);
    frame.style.setProperty("--ratio", width / height);
    return make("figure", { class: "photo" }, make("a", { href: root + shown.page, "aria-label": alternative }, frame), rights);
  }

  /* Search: every word must occur, in lower case; taxa first, then latents, then traits. */
  const SHOWN = 48;
  let columns = null;
  function prepare() {
    const data = atlas.search;
    const lower = (text) => text.toLowerCase();
    const names = data.species.map(([name]) => lower(name));
    return {
      data,
      species: data.species.map((one) => lower(`${one[0]} ${one[2]}`)),
      names,
      texts: data.texts.map(([text, besides]) => lower(`${text} ${besides}`)),
    };
  }

  /* Indices into columns of what has all words, and how many traits there are in all. */
  function find(words) {
    const { data, species, texts, names } = columns;
    const taxa = [];
    species.forEach((text, i) => { if (words.every((word) => text.includes(word))) taxa.push(i); });
    const given = allNames();
    const latents = [];
    for (const [number] of data.latents) {
      const text = `latent ${number} ${(given[number] ?? atlas.suggested[number] ?? "").toLowerCase()}`;
      if (words.every((word) => text.includes(word))) latents.push(number);
    }
    /* Which words each text and each species has, as bits: a trait has what its text or its species has. */
    const complete = 2 ** words.length - 1;
    const bits = (text) => words.reduce((sum, word, k) => sum + (text.includes(word) ? 2 ** k : 0), 0);
    const ofText = texts.map(bits);
    const ofSpecies = names.map(bits);
    const ofLatent = data.latents.map(([number]) => bits((given[number] ?? "").toLowerCase()));
    const traits = [];
    let n = 0;
    for (let i = 0; i < data.traits.length; i += 3) {
      const latent = data.traits[i + 2];
      const inTrait = ofText[data.traits[i + 1]] | (latent < 0 ? 0 : ofLatent[latent]);
      /* A species alone is found above, not in each of its traits. */
      if (inTrait && (inTrait | ofSpecies[data.images[data.traits[i]][1]]) === complete) {
        n += 1;
        if (traits.length < SHOWN) traits.push(i);
      }
    }
    return { taxa, latents, traits, n };
  }

  function marked(text, words) {
    const lower = text.toLowerCase();
    const span = make("span");
    let at = 0;
    while (lower.length === text.length) {
      const hits = words.map((word) => [lower.indexOf(word, at), word]).filter(([where]) => where >= 0);
      if (!hits.length) break;
      const [where, word] = hits.reduce((a, b) => (b[0] < a[0] ? b : a));
      span.append(text.slice(at, where), make("mark", {}, text.slice(where, where + word.length)));
      at = where + word.length;
    }
    span.append(text.slice(at));
    return span;
  }

  function showResults(query) {
    const results = byId("results");
    const words = query.toLowerCase().split(/\s+/).filter(Boolean).slice(0, 16);
    byId("main").hidden = words.length > 0;
    results.hidden = words.length === 0;
    if (!words.length) return;
    const { data } = columns;
    const found = find(words);
    const hits = [];
    for (const i of found.taxa.slice(0, 12)) {
      const [name, page, lineage] = data.species[i];
      const link = make("a", { href: root + page, class: "binomial" }, marked(name, words));
      hits.push(make("li", { class: "plain-hit" }, make("div", {}, link, " ", make("span", { class: "quiet" }, lineage))));
    }
    for (const number of found.latents.slice(0, 12)) {
      const link = make("a", { href: `${root}latents/${number}.html` }, nameOf(number));
      const besides = nameOf(number).startsWith(`latent ${number}`) ? "" : `latent ${number}`;
      hits.push(make("li", { class: "plain-hit" }, make("div", {}, link, " ", make("span", { class: "quiet" }, besides))));
    }
    for (const i of found.traits) {
      const [page, species, rights, hasPicture] = data.images[data.traits[i]];
      const [text, besides] = data.texts[data.traits[i + 1]];
      const src = root + page.replace(/^images/, "pictures").replace(/html$/, "webp");
      const name = data.species[species][0];
      hits.push(make("li", {},
        hasPicture ? make("img", { src, alt: `Photograph of ${name}`, loading: "lazy", width: 104, height: 83 }) : make("span"),
        make("div", {}, make("a", { href: root + page }, marked(text, words)),
          make("div", { class: "quiet" }, make("i", {}, name), besides ? " · " : "", marked(besides, words)),
          make("small", { class: "rights" }, data.rights[rights]))));
    }
    const counted = (n, one, more) => `${n} ${n === 1 ? one : more}`;
    const numbers = [counted(found.taxa.length, "species", "species"), counted(found.latents.length, "latent", "latents")];
    /* No trait is found by its species alone, which does not mean that the species has none. */
    const said = found.taxa.length && !found.n
      ? `${numbers.join(" and ")}; traits are on the page of ${found.taxa.length === 1 ? "the" : "each"} species`
      : `${numbers.join(", ")} and ${counted(found.n, "trait", "traits")}`;
    const shown = found.n > found.traits.length ? `, of which the first ${found.traits.length} are shown`
      : hits.length ? "" : ". Nothing has all of these words: try fewer, or a part of one.";
    results.replaceChildren(
      make("h2", {}, `Found for “${query.trim()}”`),
      make("p", { role: "status", class: "quiet" }, said + shown),
      make("ul", { class: "found" }, ...hits));
  }

  function initSearch() {
    const form = document.querySelector(".search");
    const input = byId("query");
    form.hidden = false;
    const search = async () => {
      await load("search");
      columns ??= prepare();
      showResults(input.value);
    };
    form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
    input.addEventListener("input", search);
    document.addEventListener("keydown", (event) => {
      const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
      if (event.key === "/" && !typing) { event.preventDefault(); input.focus(); }
      if (event.key === "Escape" && document.activeElement === input) { input.value = ""; if (columns) showResults(""); }
    });
    atlas.find = async (query) => {
      await load("search");
      columns ??= prepare();
      return find(query.toLowerCase().split(/\s+/).filter(Boolean));
    };
  }

  /* Names of latents: those of the release, and over them those that this browser keeps, for this SAE alone. */
  const KEY = `sae-traits names of ${sae}`;
  function kept() {
    try {
      return JSON.parse(localStorage.getItem(KEY)) ?? {};
    } catch {
      return {};
    }
  }
  const allNames = () => ({ ...atlas.latents, ...kept() });
  const nameOf = (number) => {
    const suggestion = atlas.suggested[number];
    return allNames()[number] || (suggestion ? `latent ${number} (${suggestion}?)` : `latent ${number}`);
  };
  function keep(names) {
    try {
      localStorage.setItem(KEY, JSON.stringify(names));
      return true;
    } catch {
      return false;
    }
  }

  function showNames() {
    const names = allNames();
    for (const span of all("[data-latent-name]")) span.textContent = nameOf(span.dataset.latentName);
    const table = byId("names");
    if (!table) return;
    const mine = kept();
    const row = (number, name, from) => make("tr", {},
      make("td", { class: "number" }, make("a", { href: `${root}latents/${number}.html` }, number)),
      make("td", { class: "named" }, name),
      make("td", {}, from));
    table.replaceChildren(
      ...Object.entries(names).filter(([, name]) => name)
        .map(([number, name]) => row(number, name, mine[number] ? "this browser" : "the release")),
      ...Object.entries(atlas.suggested).filter(([number]) => !names[number])
        .map(([number, name]) => row(number, `${name}?`, acceptance(number, () => accept(number, name)))));
    byId("names-status").textContent = table.children.length ? "" : "No latent has a name yet.";
  }

  function accept(number, name) {
    keep({ ...kept(), [number]: name });
    showNames();
  }

  /* A button that makes a suggestion a name. */
  function acceptance(number, accepted) {
    const button = make("button", { type: "button" }, `Accept “${atlas.suggested[number]}”`);
    button.setAttribute("aria-label", `Accept “${atlas.suggested[number]}” for latent ${number}`);
    button.addEventListener("click", accepted);
    return button;
  }

  function initNames() {
    for (const form of all("form.name")) {
      const input = form.querySelector("input");
      const status = form.querySelector("[role=status]");
      const number = form.dataset.latent;
      form.hidden = false;
      input.value = allNames()[number] ?? "";
      const save = () => {
        const names = kept();
        const name = input.value.trim().replace(/\s+/g, " ");
        if (name) names[number] = name; else delete names[number];
        const done = keep(names);
        if (status) status.textContent = done ? "Kept in this browser; export it under Names." : "This browser keeps nothing.";
        showNames();
      };
      if (atlas.suggested[number] && !input.value) {
        const button = acceptance(number, () => {
          input.value = atlas.suggested[number];
          save();
          button.remove();
        });
        form.append(button);
      }
      form.addEventListener("submit", (event) => { event.preventDefault(); save(); });
      input.addEventListener("change", save);
    }
    if (byId("naming")) {
      byId("naming").hidden = false;
      byId("export-names").addEventListener("click", exportNames);
      byId("import-names").addEventListener("change", importNames);
    }
    showNames();
  }

  function exportNames() {
    const given = Object.fromEntries(Object.entries(allNames()).filter(([, name]) => name));
    const text = JSON.stringify({ format: "sae-traits names", sae, names: given }, null, 2);
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "names.json" });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  async function importNames(event) {
    const status = byId("names-status");
    try {
      const read = JSON.parse(await event.target.files[0].text());
      if (read.format !== "sae-traits names") throw new Error("it is no file of names that an atlas exported");
      if (read.sae !== sae) throw new Error(`its names are of another SAE (${read.sae})`);
      const named = Object.entries(read.names).filter(([number, name]) => /^\d+$/.test(number) && typeof name === "string");
      keep({ ...kept(), ...Object.fromEntries(named) });
      showNames();
      status.textContent = `${named.length} names were read.`;
    } catch (error) {
      status.textContent = `The file cannot be used: ${error.message}.`;
    } finally {
      event.target.value = ""; /* so that the same file, mended, counts as another */
    }
  }

  /* Two species side by side; which is in the address, so that it can be passed on. */
  function side(one) {
    return make("section", {},
      make("h2", { class: "binomial" }, make("a", { href: root + one.page, class: "binomial" }, one.name)),
      make("p", { class: "quiet" }, [...one.lineage, `${one.counts[0]} photographs`, `${one.counts[1]} individuals`].join(" · ")),
      make("div", { class: "photographs" }, ...one.pictures.map((shown) => picture(shown, `Photograph of ${one.name}`))));
  }

  const MAX_LINKS = 24;
  const latentLink = (number) =>
    make("a", { href: `${root}latents/${number}.html` }, make("span", { "data-latent-name": number }, `latent ${number}`));
  function latentLinks(numbers) {
    const links = numbers.slice(0, MAX_LINKS).flatMap((number, i) => [i ? ", " : "", latentLink(number)]);
    return numbers.length > MAX_LINKS ? [...links, `, and ${numbers.length - MAX_LINKS} more`] : links;
  }

  /* Shares of the individuals of a species in which a latent fires: training ones, and those held out (null: none). */
  const firing = (one, latent) => one.individuals.map((of, i) => of ? (one.fired[latent] ?? [0, 0])[i] / of : null);
  const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

  /* In how many individuals of both a latent fires. */
  function beside(one, other, latent) {
    const [[own, ownAgain], [theirs, theirsAgain]] = [firing(one, latent), firing(other, latent)];
    const again = ownAgain === null ? ""
      : `; found again in ${percent(ownAgain)} ${theirsAgain === null ? "" : `and ${percent(theirsAgain)} `}of those held out`;
    return make("p", {}, `In ${percent(own)} of its individuals and ${percent(theirs)} of those of `, make("i", {}, other.name), again);
  }

  /* Latents that describe the one and fire in a larger share of its individuals than of the other's, the largest
     difference first; where that is not known, those that describe the one alone. Only those to trust first have a
     close-up and what is said of them. */
  function latentsOf(one, other) {
    const theirs = new Set(other.all_latents);
    const known = [one, other].every((species) => species.individuals?.[0]);
    const lead = (number) => firing(one, number)[0] - firing(other, number)[0];
    const tells = (number) => known ? lead(number) > 0 : !theirs.has(number);
    const shown = one.latents.filter((row) => tells(row.latent));
    const drawn = new Set(shown.map((row) => row.latent));
    const others = one.all_latents.filter((number) => tells(number) && !drawn.has(number));
    if (known) {
      shown.sort((a, b) => lead(b.latent) - lead(a.latent));
      others.sort((a, b) => lead(b) - lead(a));
    }
    const rows = shown.map((row) => make("div", { class: "pair" },
      row.where ? picture(row.where, `Close-up of ${one.name}: ${row.where.text}`) : make("span"),
      make("div", {},
        latentLink(row.latent),
        make("p", {}, row.said || (row.where ? row.where.text : "")),
        known ? beside(one, other, row.latent) : null,
        make("p", { class: "quiet" }, `Against all of its relatives: ${row.often}`),
        make("p", { class: "verdict" }, "Against them: ", make("b", {}, row.verdict)))));
    if (others.length) rows.push(make("p", { class: "quiet" }, rows.length ? "Also " : "", ...latentLinks(others), "."));
    return make("section", {},
      make("h2", {}, ...(known ? ["More often in ", make("i", {}, one.name), " than in the other"]
        : ["What describes ", make("i", {}, one.name), " and not the other"])),
      ...(rows.length ? rows : [make("p", { class: "quiet" }, "No latent.")]));
  }

  function shared(first, second) {
    const theirs = new Set(second.all_latents);
    const both = first.all_latents.filter((number) => theirs.has(number));
    if (!both.length) return make("p", { class: "quiet" }, "No latent describes both.");
    return make("p", {}, "What describes both: ", ...latentLinks(both), ".");
  }

  function attributes(first, second) {
    const shares = new Map();
    for (const [i, one] of [first, second].entries())
      for (const [name, value, share] of one.attributes) {
        const key = `${name} ${value}`;
        if (!shares.has(key)) shares.set(key, [0, 0]);
        shares.get(key)[i] = share;
      }
    const rows = [...shares].sort((a, b) => Math.abs(b[1][0] - b[1][1]) - Math.abs(a[1][0] - a[1][1])).slice(0, 12);
    const cell = (percent) => {
      const bar = make("i");
      bar.style.width = `${percent}%`;
      return make("td", {}, `${percent}\u00a0%`, make("span", { class: "meter", "aria-hidden": "true" }, bar));
    };
    return make("section", {}, make("h2", {}, "What is said of them"),
      make("table", { class: "bars" },
        make("caption", {}, "Share of individuals of which it is said of any region; the largest differences first"),
        make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "attribute"),
          ...[first, second].map((one) => make("th", { scope: "col" }, make("i", {}, one.name))))),
        make("tbody", {}, ...rows.map(([key, [a, b]]) => make("tr", {}, make("th", { scope: "row" }, key), cell(a), cell(b))))));
  }

  async function initCompare() {
    if (!byId("choose")) return;
    await load("species");
    const [first, second] = [byId("first"), byId("second")];
    for (const select of [first, second])
      select.append(...atlas.choices.map(([key, name]) => make("option", { value: key }, name)));
    const fromAddress = () => {
      const keys = decodeURIComponent(location.hash.slice(1)).split("&");
      const known = atlas.choices.map(([key]) => key);
      first.value = known.includes(keys[0]) ? keys[0] : known[0];
      second.value = known.includes(keys[1]) ? keys[1] : known.find((key) => key !== first.value) ?? known[0];
    };
    const show = async () => {
      await Promise.all([load(`compare/${first.value}`), load(`compare/${second.value}`)]);
      const [a, b] = [atlas.species[first.value], atlas.species[second.value]];
      byId("compared").textContent = `${a.name} and ${b.name}`;
      byId("comparison").replaceChildren(
        make("div", { class: "sides" }, side(a), side(b), latentsOf(a, b), latentsOf(b, a)),
        shared(a, b),
        attributes(a, b));
      showNames();
    };
    const chosen = () => {
      history.replaceState(null, "", `#${first.value}&${second.value}`);
      show();
    };
    first.addEventListener("change", chosen);
    second.addEventListener("change", chosen);
    byId("swap").addEventListener("click", () => {
      [first.value, second.value] = [second.value, first.value];
      chosen();
    });
    addEventListener("hashchange", () => { fromAddress(); show(); });
    fromAddress();
    byId("choose").hidden = false;
    show();
  }

  initRegions(document);
  initSearch();
  initCompare();
  Promise.all([load("latents"), load("suggested")]).then(initNames);
})();
