"use strict";
// Runs are unpacked and shown as they are asked for; all text is set as text, never as markup.
(() => {
  const PAGE = 50;
  const REACH = 28; // pixels from a pointer to the mark that it means
  const data = JSON.parse(document.getElementById("data").textContent);
  const places = new Map(data.runs.map((row, place) => [row[0], place]));
  const word = (number) => data.words[number];

  function make(name, properties = {}, ...children) {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  }

  function hexadecimal(base64) {
    const digits = (character) => character.charCodeAt(0).toString(16).padStart(2, "0");
    return Array.from(atob(base64), digits).join("");
  }

  function unpackMade([shape, attempt, ...values]) {
    const [name, metrics, files] = data.shapes[shape];
    return {
      name, attempt, metrics: metrics.map((metric, at) => [metric, values[at]]),
      files: files.map((file, at) => [file, hexadecimal(values[metrics.length + at])]),
    };
  }

  function unpackInputs(flat) {
    const places = flat.filter((_, at) => at % 2);
    return places.map((place, at) => [word(flat[2 * at]), data.runs[place]]);
  }

  const labelOf = (row) => `${row[0].split("-")[0]} ${row[1].map(word).join(" ")}`;

  // What packed() in runs.py wrote.
  function unpack(row) {
    const [id, , seed, state, tries, outputs, inputs] = row;
    return {
      id, seed, state: word(state), label: labelOf(row),
      hours: tries.reduce((sum, each) => sum + each[7], 0) / 3600,
      inputs: unpackInputs(inputs),
      outputs: outputs.map(unpackMade),
      tries: tries.map((each) => ({
        number: each[0], counts: each[1] === 1, outcome: word(each[2]), commit: word(each[3]),
        command: word(each[4]) + (each[5] < 0 ? "" : id + word(each[5])),
        hardware: word(each[6]), seconds: each[7], packages: word(each[8]),
      })),
    };
  }

  const runAt = (id) => unpack(data.runs[places.get(id)]);
  const runLink = (id, text) => make("a", { href: `#${id}` }, text);
  const hours = (run) => `${run.hours.toFixed(4)} hours`;

  // The list of runs and its filter.
  const list = document.getElementById("list");
  const filter = document.getElementById("filter");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  let matching = data.runs;
  let haystacks = null;

  function haystack(row) {
    const tries = row[4].flatMap((each) => [word(each[3]), word(each[6])]);
    return [labelOf(row), row[0], `seed ${row[2]}`, word(row[3]), ...tries]
      .join(" ").toLowerCase();
  }

  function described(run) {
    const items = [["Id", run.id], ["State", run.state], ["Seed", run.seed || "none"]];
    for (const each of run.tries) {
      const of = `Attempt ${each.number}`;
      items.push([of, `${each.outcome}${each.counts ? "" : ", does not count"}`]);
      items.push(["Commit", make("code", {}, each.commit)]);
      items.push(["Command", make("code", {}, each.command)]);
      items.push(["Hardware", `${each.hardware}, ${each.seconds} s`]);
      items.push(["Packages", each.packages || "not recorded"]);
    }
    for (const made of run.outputs) {
      const metrics = made.metrics.map(([name, value]) => `${name} ${value}`).join(", ");
      items.push([`Output ${made.name}`, metrics || "no metrics"]);
      for (const [name, sha] of made.files) {
        items.push([name, make("code", {}, `sha256 ${sha}\u2026`)]);
      }
    }
    for (const [role, row] of run.inputs) {
      items.push([`Made from ${role}`, runLink(row[0], labelOf(row))]);
    }
    const lines = items.map(([term, text]) =>
      make("div", {}, make("dt", {}, term), make("dd", {}, text)));
    return make("dl", {}, ...lines);
  }

  function shownRun(row) {
    const run = unpack(row);
    const said = [run.seed && `seed ${run.seed}`, run.state, hours(run)].filter(Boolean);
    const summary = make("summary", {}, make("b", {}, run.label),
      make("span", { className: "dim" }, ` ${said.join(", ")}`));
    const details = make("details", { id: run.id, className: "run" }, summary);
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) details.append(described(run));
    });
    return details;
  }

  function grow() {
    const from = list.children.length;
    list.append(...matching.slice(from, from + PAGE).map(shownRun));
    const left = matching.length - list.children.length;
    more.hidden = left <= 0;
    more.textContent = `Show ${Math.min(PAGE, left)} more of ${left}`;
    return list.children[from];
  }

  function search() {
    const terms = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (terms.length) haystacks = haystacks || data.runs.map(haystack);
    const has = (_, at) => terms.every((term) => haystacks[at].includes(term));
    matching = data.runs.filter(has);
    list.replaceChildren();
    grow();
    count.textContent = `${matching.length} of ${data.runs.length} runs`;
  }

  more.addEventListener("click", () => grow().firstChild.focus());
  filter.addEventListener("input", search);
  document.getElementById("find").hidden = false;
  search();

  function go() {
    const id = decodeURIComponent(location.hash.slice(1));
    if (places.has(id)) {
      filter.value = id;
      search();
      list.firstChild.open = true;
      list.firstChild.firstChild.focus({ preventScroll: true });
      document.getElementById("runs").scrollIntoView();
      return;
    }
    const found = id && document.getElementById(id);
    const closed = found && found.closest("details");
    if (closed) {
      closed.open = true;
      found.scrollIntoView();
      found.focus({ preventScroll: true });
    }
  }

  // The runs behind one number.
  const dialog = document.getElementById("behind-number");
  const [title, body, close] = dialog.children;

  function heading(cell) {
    const table = cell.closest("table");
    let at = 0;
    for (let each = cell.previousElementSibling; each; each = each.previousElementSibling) {
      at += each.colSpan;
    }
    const head = Array.from(table.tHead.rows[0].cells).find((each) => (at -= each.colSpan) < 0);
    return [table.caption, cell.parentNode.querySelector("th"), head]
      .map((each) => each.textContent.trim()).join(", ");
  }

  function lineOf(id, metric) {
    const run = runAt(id);
    const found = run.outputs.flatMap((made) => made.metrics).find(([name]) => name === metric);
    const said = [run.seed && `seed ${run.seed}`, found && found.join(" "), hours(run)];
    const text = ` ${said.filter(Boolean).join(", ")}`;
    return make("li", {}, runLink(id, run.label), text);
  }

  function open(link) {
    const entry = document.getElementById(link.hash.slice(1));
    const cell = link.closest("td");
    const ids = Array.from(entry.querySelectorAll("a"), (each) => each.hash.slice(1));
    title.textContent = `${heading(cell)}: ${link.textContent}`;
    const lines = ids.map((id) => lineOf(id, cell.dataset.m));
    const all = make("p", {}, make("a", { href: link.hash }, "Entry of these runs"));
    body.replaceChildren(make("ul", {}, ...lines), all);
    dialog.showModal();
  }

  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (link.classList.contains("n")) {
      event.preventDefault();
      open(link);
      return;
    }
    dialog.close();
    if (link.hash === location.hash) go();
  });

  // Figures: a tip at the mark under the pointer or at the one that the arrow keys chose.
  function center(mark) {
    const box = mark.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  }

  function interactive(plot) {
    const rows = plot.closest("section").querySelector("table.data").tBodies[0].rows;
    const named = rows[0].closest("table").tHead.rows[0].cells[2].textContent;
    const head = named === "row" ? "" : `${named} `;
    const tip = make("div", { className: "tip", hidden: true });
    tip.setAttribute("role", "status");
    plot.append(tip);
    plot.tabIndex = 0;
    plot.setAttribute("role", "group");
    plot.setAttribute("aria-label",
      `${plot.dataset.label}: arrow keys go from value to value, Enter opens its runs`);
    let at = null;
    const marks = () => Array.from(plot.querySelectorAll("g:not(.off) > .pt"));

    function show(mark) {
      if (mark === at) return;
      if (at) at.classList.remove("at");
      at = mark;
      tip.hidden = !mark;
      if (!mark) return;
      mark.classList.add("at");
      const [, series, place, value, interval, runs] =
        Array.from(rows[mark.dataset.p].cells, (cell) => cell.textContent.trim());
      const range = interval === "none" ? "no interval" : `interval ${interval}`;
      tip.replaceChildren(make("b", {}, `${series}, ${head}${place}`), make("br"),
        `${value}, ${range}`, make("br"), `${runs} ${runs === "1" ? "run" : "runs"}`);
      const [x, y] = center(mark);
      const box = plot.getBoundingClientRect();
      const room = box.width - tip.offsetWidth;
      tip.style.left = `${Math.max(0, Math.min(room, x - box.left - tip.offsetWidth / 2))}px`;
      tip.style.top = `${y - box.top + 14}px`;
    }

    function near(event) {
      const far = (mark) => {
        const [x, y] = center(mark);
        return Math.hypot(x - event.clientX, y - event.clientY);
      };
      const under = event.target.closest(".pt");
      if (under) return under;
      const best = marks().sort((one, other) => far(one) - far(other))[0];
      return best && far(best) < REACH ? best : null;
    }

    const runs = () => at && open(rows[at.dataset.p].querySelector("a"));
    plot.addEventListener("pointermove", (event) => show(near(event)));
    plot.addEventListener("pointerleave", () => show(null));
    plot.addEventListener("blur", () => show(null));
    plot.addEventListener("click", (event) => {
      show(near(event));
      runs();
    });
    plot.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
      const all = marks();
      if (event.key in steps && all.length) {
        const from = all.indexOf(at);
        const step = steps[event.key];
        const next = from < 0 ? (step > 0 ? 0 : all.length - 1) : from + step;
        show(all[(next + all.length) % all.length]);
      } else if (event.key === "Enter") runs();
      else if (event.key === "Escape") show(null);
      else return;
      event.preventDefault();
    });
  }

  function toggled(item) {
    const button = make("button", { type: "button" }, ...item.childNodes);
    const marks = item.closest("section").querySelectorAll(`g[data-s="${item.dataset.s}"]`);
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      const off = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!off));
      for (const each of marks) each.classList.toggle("off", off);
    });
    item.append(button);
  }

  document.querySelectorAll(".plot").forEach(interactive);
  document.querySelectorAll(".legend li").forEach(toggled);
  window.addEventListener("hashchange", go);
  go();
})();
