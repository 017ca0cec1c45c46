"use strict";
(() => {
  document.documentElement.classList.add("has-js");
  const save = (name, lines) => {
    const link = document.createElement("a");
    const text = lines.map((cells) => cells.join("\t")).join("\n") + "\n";
    link.href = URL.createObjectURL(new Blob([text], { type: "text/tab-separated-values" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const words = (row) => [...row.cells].map((cell) => cell.textContent);

  // Tables: sort by a column, save as they stand.
  const rank = (text) => (text === "n/a" || text === "" ? null : isNaN(text) ? text : Number(text));
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b));
  };
  const sort = (table, column, direction) => {
    const keyed = [...table.tBodies[0].rows].map((row) => [rank(row.cells[column].textContent), row]);
    keyed.sort(([a], [b]) => (a === null || b === null ? 1 : direction) * compare(a, b));
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  };
  for (const table of document.querySelectorAll("table.data")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        sort(table, column, up ? 1 : -1);
      });
    });
  }
  for (const button of document.querySelectorAll(".save-table")) {
    button.addEventListener("click", () => {
      const table = button.closest("details").querySelector("table");
      save(button.dataset.file, [...table.rows].map(words));
    });
  }

  // Marks: kept in the browser between visits where it allows that, saved as a table.
  for (const run of document.querySelectorAll("article.run")) {
    const key = "scsnet-bids marks " + location.pathname + " " + run.dataset.run;
    const marks = [...run.querySelectorAll(".mark")];
    const read = () => marks.map((mark) => ({
      slice: Number(mark.dataset.slice),
      mark: mark.querySelector("input:checked")?.value ?? "",
      comment: mark.querySelector("input[type=text]").value.replace(/\s+/g, " ").trim(),
    })).filter((row) => row.mark).sort((a, b) => a.slice - b.slice);
    const tell = () => {
      const rows = read();
      const failed = rows.filter((row) => row.mark === "fail").length;
      run.querySelector(".marked").textContent = rows.length
        ? `${rows.length} of ${marks.length} slices marked, ${failed} fail` : "";
    };
    try {
      for (const row of JSON.parse(localStorage.getItem(key) ?? "[]")) {
        const mark = marks.find((other) => Number(other.dataset.slice) === row.slice);
        const choice = [...(mark?.querySelectorAll("input[type=radio]") ?? [])]
          .find((input) => input.value === row.mark);
        if (!choice) continue;
        choice.checked = true;
        mark.querySelector("input[type=text]").value = row.comment;
      }
    } catch { /* no storage: marks last as long as the page */ }
    run.addEventListener("input", (event) => {
      if (!event.target.closest(".mark")) return;
      tell();
      try { localStorage.setItem(key, JSON.stringify(read())); } catch { /* as above */ }
    });
    run.querySelector(".save-marks")?.addEventListener("click", () => {
      const rows = read().map((row) => [run.dataset.run, row.slice, row.mark, row.comment || "n/a"]);
      save(run.dataset.run + "_marks.tsv", [["run", "slice", "mark", "comment"], ...rows]);
    });
    tell();
  }
})();
