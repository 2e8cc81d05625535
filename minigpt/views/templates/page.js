const colours = ["--blue", "--orange", "--pink", "--green"].map((name) => `var(${name})`);
const axis = {
  domainColor: "var(--rule)", tickColor: "var(--rule)", gridColor: "var(--grid)",
  labelColor: "var(--muted)", titleColor: "var(--muted)",
  labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", titlePadding: 8,
  labelOverlap: "greedy", labelSeparation: 6, labelFlush: false,
};
const config = {
  background: null,
  font: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif",
  view: { stroke: null },
  axis,
  legend: { labelColor: "var(--muted)", titleColor: "var(--muted)", labelFontSize: 12 },
  title: { color: "var(--ink)" },
  range: { category: colours },
  text: { color: "var(--ink)", fontSize: 12, baseline: "middle" },
  rule: { color: "var(--muted)" },
  line: { color: "var(--blue)", strokeWidth: 1.75 },
  area: { color: "var(--blue)" },
  point: { color: "var(--blue)" },
  bar: { color: "var(--blue)" },
};
for (const spec of document.querySelectorAll("script.spec")) {
  const options = { renderer: "svg", actions: false, config, tooltip: { theme: "custom" } };
  vegaEmbed(spec.previousElementSibling, JSON.parse(spec.text), options).catch(console.error);
}
