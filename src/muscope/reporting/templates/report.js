"use strict";
// Every chart reads the embedded tables; what the reader chooses are parameters of the charts.
(() => {
  const THEMES = JSON.parse(document.getElementById("themes").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const KINDS = {
    int32: Int32Array, float32: Float32Array, float64: Float64Array, text: Int32Array,
  };
  const tables = new Map();
  const cards = new Map();
  let drawing = null;

  async function inflate(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // The columns of a table by name, each a function from a row's number to its value.
  function table(run, name) {
    const key = `${run} ${name}`;
    if (!tables.has(key)) {
      const element = document.querySelector(
        `script.table[data-run="${run}"][data-table="${name}"]`);
      tables.set(key, unpacked(JSON.parse(element.textContent)));
    }
    return tables.get(key);
  }

  async function unpacked(about) {
    const bytes = await inflate(about.data);
    const count = about.rows;
    const columns = {};
    let at = 0;
    for (const column of about.columns) {
      const Kind = KINDS[column.kind];
      const size = Kind.BYTES_PER_ELEMENT;
      const whole = new Uint8Array(count * size);
      for (let place = 0; place < size; place++) {
        for (let row = 0; row < count; row++) whole[row * size + place] = bytes[at++];
      }
      const numbers = new Kind(whole.buffer);
      const texts = column.values;
      columns[column.name] = texts ? (row) => texts[numbers[row]] : (row) => numbers[row];
    }
    return { count, columns };
  }

  function rowsOf({ count, columns }, names) {
    const rows = new Array(count);
    for (let row = 0; row < count; row++) {
      const made = {};
      for (const name of names) {
        const value = columns[name](row);
        made[name] = Number.isNaN(value) ? null : value;
      }
      rows[row] = made;
    }
    return rows;
  }

  function csvOf({ count, columns }) {
    const names = Object.keys(columns);
    const cell = (value) => {
      if (Number.isNaN(value)) return "";
      const text = String(value);
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = [names.map(cell).join(",")];
    for (let row = 0; row < count; row++) {
      lines.push(names.map((name) => cell(columns[name](row))).join(","));
    }
    return lines.join("\r\n") + "\r\n";
  }

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  async function library() {
    const source = await inflate(document.getElementById("vega").textContent);
    new Function(new TextDecoder().decode(source))();
  }

  // The cells around points, by which the nearest one is found, tell what their point would tell.
  function mended(spec) {
    const marks = [...spec.marks];
    for (const mark of marks) {
      marks.push(...(mark.marks || []));
      if (mark.name && mark.name.endsWith("_voronoi")) {
        mark.encode.update.tooltip = { signal: "datum.datum.told" };
      }
    }
    return spec;
  }

  async function draw(card) {
    const { colours, config } = dark.matches ? THEMES.dark : THEMES.light;
    drawing = drawing || library();
    await drawing;
    for (const view of card.views) view.finalize();
    card.views = [];
    const places = card.element.querySelectorAll(".chart");
    for (const [i, [spec, name, columns]] of card.panels.entries()) {
      const coloured = JSON.stringify(spec).replaceAll(
        /"\$(\w+)"/g, (whole, name) => name in colours ? JSON.stringify(colours[name]) : whole);
      const drawn = JSON.parse(coloured);
      for (const parameter of drawn.params) {
        const chosen = card.chosen[parameter.name];
        if (chosen !== undefined && takes(columns, parameter.name, chosen)) parameter.value = chosen;
      }
      drawn.datasets = { rows: rowsOf(await table(card.run, name), columns) };
      const made = await vegaEmbed(places[i], drawn, {
        actions: false, renderer: "canvas", config, tooltip: { theme: "custom" },
        patch: mended,
        logLevel: 1, // Errors: a line that nothing is chosen of has no extent: no news.
      });
      card.views.push(made.view);
    }
    card.element.dataset.drawn = "yes";
  }

  // Drawn one after the other, so that a change of theme never meets a chart half made.
  function redraw(card) {
    card.busy = card.busy.then(() => draw(card));
    return card.busy;
  }

  // Whether a panel has what is to be shown.
  function takes(columns, parameter, value) {
    return parameter !== "measure" || columns.includes(value);
  }

  function choose(card, parameter, value) {
    card.chosen[parameter] = value;
    const taking = (_, i) => takes(card.panels[i][2], parameter, value);
    card.busy = card.busy.then(() => Promise.all(
      card.views.filter(taking).map((view) => view.signal(parameter, value).runAsync())));
  }

  function bind(card, control) {
    const { parameter, how } = control.dataset;
    const values = JSON.parse(control.dataset.values || "[]");
    control.addEventListener("input", (event) => {
      const boxes = [...control.querySelectorAll("input[type=checkbox]")];
      if (how === "switch") {
        choose(card, parameter, boxes[0].checked);
      } else if (how === "some" || how === "agents") {
        const list = how === "agents" ? card.agents : values;
        const picked = list.filter((_, i) => boxes[i].checked);
        choose(card, parameter, picked);
        if (how === "agents") tell(control, picked, list);
      } else {
        choose(card, parameter, values[Number(event.target.value)]);
        if (how === "slider") {
          const shown = JSON.parse(event.target.dataset.shown)[Number(event.target.value)];
          control.querySelector("output").textContent = shown;
          event.target.setAttribute("aria-valuetext", shown);
        }
      }
    });
  }

  function tell(control, picked, all) {
    const few = picked.length <= 6 ? picked.join(", ") || "none" : `${picked.length} of ${all.length}`;
    control.querySelector(".which").textContent = picked.length === all.length ? "all" : few;
  }

  function fillAgents(card, control) {
    const fieldset = control.querySelector("fieldset");
    const button = (words, checked) => {
      const made = document.createElement("button");
      made.type = "button";
      made.textContent = words;
      made.addEventListener("click", () => {
        for (const box of fieldset.querySelectorAll("input")) box.checked = checked;
        fieldset.dispatchEvent(new Event("input", { bubbles: true }));
      });
      return made;
    };
    for (const agent of card.agents) {
      const label = document.createElement("label");
      label.className = "chip";
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = true;
      label.append(box, ` ${agent}`);
      fieldset.append(label);
    }
    fieldset.append(button("all", true), button("none", false));
  }

  // A film: pictures by the slider's place, and what was predicted at the move.
  function bindPlayer(card) {
    const { element } = card;
    const frames = JSON.parse(element.querySelector("script.frames").textContent);
    const scene = element.querySelector(".scene img");
    const slider = element.querySelector("input[type=range]");
    const told = element.querySelector(".told");
    const play = element.querySelector('[data-play="0"]');
    const [spec, name, columns] = card.panels[0];
    const [, next, last] = spec.layer[0].encoding.color.scale.domain;
    const moves = JSON.parse(slider.closest("[data-values]").dataset.values);
    const digits = (value) => value === null ? "none" : String(Number(value.toPrecision(4)));
    let timer = null;
    let rows = null;
    const tell = async () => {
      const place = Number(slider.value);
      scene.src = frames[place];
      rows = rows || rowsOf(await table(card.run, name), columns);
      const row = rows[moves[Number(slider.value)]];
      told.textContent = `move ${row.move}: action ${row.action}, reward ${digits(row.reward)}; `
        + `${next} ${digits(row.predicted_next)}, ${last} ${digits(row.predicted_last)}`;
    };
    const show = (place) => {
      slider.value = place;
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    };
    const stop = () => {
      clearInterval(timer);
      timer = null;
      play.textContent = "play";
    };
    slider.addEventListener("input", tell);
    for (const button of element.querySelectorAll("[data-play]")) {
      const by = Number(button.dataset.play);
      button.addEventListener("click", () => {
        const last = frames.length - 1;
        const playing = timer !== null;
        stop();
        if (by) show(Math.min(Math.max(Number(slider.value) + by, 0), last));
        if (by || playing) return;
        if (Number(slider.value) === last) show(0);
        play.textContent = "pause";
        timer = setInterval(() => {
          if (Number(slider.value) >= last) stop();
          else show(Number(slider.value) + 1);
        }, 80);
      });
    }
    told.hidden = false;
    tell();
  }

  function start(element) {
    const panels = JSON.parse(element.querySelector("script.panels").textContent);
    const several = panels[0][0].params.find((each) => each.name === "agents");
    const agents = several ? several.value : [];
    const card = {
      element, panels, agents, run: element.dataset.run, views: [], chosen: {},
      busy: Promise.resolve(),
    };
    cards.set(element.id, card);
    for (const control of element.querySelectorAll("[data-parameter]")) {
      if (control.dataset.how === "agents") fillAgents(card, control);
      bind(card, control);
    }
    const swap = element.querySelector(".swap");
    swap.addEventListener("click", () => {
      swap.setAttribute("aria-pressed", element.classList.toggle("pictured"));
    });
    if (element.classList.contains("player")) bindPlayer(card);
    element.querySelector(".controls").hidden = false;
    return card;
  }

  for (const button of document.querySelectorAll("button.csv")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const name = button.dataset.table;
      const read = await table(button.closest("figure").dataset.run, name);
      save(new Blob([csvOf(read)], { type: "text/csv" }), `${name}.csv`);
    });
  }
  for (const link of document.querySelectorAll("a.same")) {
    link.href = link.closest("figure").querySelector(".picture img").src;
  }
  if (typeof DecompressionStream === "undefined") return; // The pictures stay.
  document.documentElement.classList.add("live");
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const card = cards.get(entry.target.id);
      if (entry.isIntersecting && !card.begun) {
        card.begun = true;
        redraw(card);
      }
    }
  }, { rootMargin: "300px" });
  for (const element of document.querySelectorAll("figure.explored")) {
    start(element);
    seen.observe(element);
  }
  dark.addEventListener("change", () => {
    for (const card of cards.values()) if (card.begun) redraw(card);
  });
  window.muscope = { cards, table };
})();
