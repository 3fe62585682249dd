"use strict";

/* Tables that sort: each heading becomes a button, so that a click, Enter and Space do the same. */

function sortKey(cell) {
  const text = (cell.dataset.value ?? cell.textContent).trim().replaceAll("\u2212", "-").replace(/^[<>]\s*/, "");
  if (text === "" || text === "n/a") return null;
  const found = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?(?![\w.])/i.exec(text);
  return found ? Number(found[0]) : text;
}

function compared(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number") return -1;
  if (typeof b === "number") return 1;
  return a.localeCompare(b, "en", { numeric: true });
}

function sortTable(table, column, heading) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => ({ row, key: sortKey(row.cells[column]) }));
  rows.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null); // what is missing stays last
    return down ? compared(b.key, a.key) : compared(a.key, b.key);
  });
  body.append(...rows.map(({ row }) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table")) {
  if (!table.tHead || table.tBodies.length !== 1 || table.tBodies[0].rows.length < 2) continue;
  Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortTable(table, column, heading));
    heading.append(button);
  });
}

/* The viewer: NiiVue, unpacked from the page itself. */

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function startViewer(section) {
  const part = (name) => section.querySelector(`[data-part="${name}"]`);
  const say = (text) => { part("said").textContent = text; };
  if (!window.DecompressionStream || !document.createElement("canvas").getContext("webgl2")) {
    say("This browser cannot show the viewer (it needs WebGL 2); the pictures below show the same images.");
    return;
  }
  const { volumes, scans, colours } = JSON.parse(document.getElementById("viewer-data").textContent);
  const script = document.createElement("script");
  script.textContent = await unpacked(document.getElementById("viewer-code").textContent);
  document.head.append(script);
  const { Niivue, NVImage } = window.niivue;
  const nv = new Niivue({
    backColor: [0, 0, 0, 1], crosshairColor: [0.35, 0.75, 1, 1], crosshairWidth: 0.25, logLevel: "error",
    isRadiologicalConvention: false, multiplanarShowRender: 0, loadingText: "", dragAndDropEnabled: false,
  });
  nv.addColormap("relapet", colours);
  await nv.attachToCanvas(part("canvas"));
  const axes = ["x", "y", "z"];
  let unit = "SUVr";

  nv.onLocationChange = (place) => {
    axes.forEach((axis, i) => { part(axis).value = String(Math.round(place.mm[i])); });
    const [x, y, z] = axes.map((axis, i) => `${axis} ${String(Math.round(place.mm[i]) + 0).replace("-", "\u2212")}`);
    const told = place.values.slice(1).map(({ value }) => `, ${unit} ${value.toFixed(2)}`).join("");
    say(`${x}, ${y}, ${z} mm${told}`);
  };

  async function show() {
    const scan = scans[part("scan").value];
    const layer = scan.layers[part("layer").value] ?? scan.layers[0];
    unit = scan.unit;
    const kept = nv.volumes.length ? nv.frac2mm(nv.scene.crosshairPos) : [0, -18, 4];
    const base = await NVImage.loadFromBase64({ base64: volumes[scan.mri], name: "mri.nii.gz", colormap: "gray" });
    const over = await NVImage.loadFromBase64({
      base64: volumes[layer.volume], name: "pet.nii.gz", colormap: "relapet", opacity: opacity(),
      cal_min: scan.window[0], cal_max: scan.window[1],
    });
    for (const volume of [...nv.volumes]) nv.removeVolume(volume);
    nv.addVolume(base);
    nv.addVolume(over);
    axes.forEach((axis, i) => {
      const ends = [nv.frac2mm([0, 0, 0])[i], nv.frac2mm([1, 1, 1])[i]];
      part(axis).min = Math.ceil(Math.min(...ends));
      part(axis).max = Math.floor(Math.max(...ends));
    });
    part("low").textContent = scan.window[0].toFixed(2);
    part("high").textContent = `${scan.window[1].toFixed(2)} ${scan.unit}`;
    moveTo(kept);
    section.dataset.ready = `${scan.label}, ${layer.label}`;
  }

  function opacity() { return part("overlay").checked ? Number(part("opacity").value) / 100 : 0; }

  function moveTo(mm) {
    nv.scene.crosshairPos = nv.mm2frac([mm[0], mm[1], mm[2]]);
    nv.createOnLocationChange();
    nv.drawScene();
  }

  function listLayers() {
    const names = scans[part("scan").value].layers.map((layer) => layer.label);
    const wanted = part("layer").selectedOptions[0]?.textContent;
    part("layer").replaceChildren(...names.map((name, i) => new Option(name, i, false, name === wanted)));
  }

  part("scan").replaceChildren(...scans.map((scan, i) => new Option(scan.label, i)));
  listLayers();
  part("scan").addEventListener("change", () => { listLayers(); show(); });
  part("layer").addEventListener("change", show);
  for (const name of ["overlay", "opacity"]) {
    part(name).addEventListener("input", () => { nv.setOpacity(1, opacity()); });
  }
  part("planes").addEventListener("change", () => { nv.setSliceType(Number(part("planes").value)); });
  for (const axis of axes) {
    part(axis).addEventListener("input", () => { moveTo(axes.map((name) => Number(part(name).value))); });
  }
  const keys = {
    ArrowLeft: ["x", -1], ArrowRight: ["x", 1], ArrowDown: ["y", -1], ArrowUp: ["y", 1], PageDown: ["z", -1], PageUp: ["z", 1],
  };
  part("canvas").addEventListener("keydown", (event) => {
    const [axis, step] = keys[event.key] ?? [];
    if (!axis || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    part(axis).value = String(Number(part(axis).value) + step);
    moveTo(axes.map((name) => Number(part(name).value)));
  });
  await show();
}

const viewer = document.querySelector(".viewer");
if (viewer) {
  startViewer(viewer).catch((error) => {
    viewer.querySelector('[data-part="said"]').textContent = `The viewer could not start: ${error.message}`;
    console.error(error);
  });
}
