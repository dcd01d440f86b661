// Lists the sentences of a sample, and what was decided about it so far.

const at = (id) => document.getElementById(id);

export function fillWords({ history, texts }) {
  at("history").replaceChildren(
    ...history.map((item) => {
      const line = document.createElement("li");
      const track = item.track === null ? "" : ` track ${item.track}`;
      const frames = item.action === "draw" ? `, frame ${item.drawn[0].frame}`
        : item.action === "absent" || item.action === "choose" ? `, frames ${item.from} to ${item.to ?? "the end"}` : "";
      line.textContent = `${item.when.slice(0, 19)} ${item.who}: ${item.action}${track}${frames}`;
      return line;
    }),
  );
  at("sentences").replaceChildren(
    ...Object.entries(texts).flatMap(([name, lines]) => {
      const title = document.createElement("h3");
      title.textContent = name;
      const items = document.createElement("ul");
      for (const text of lines) {
        const line = document.createElement("li");
        line.textContent = text;
        items.append(line);
      }
      return [title, items];
    }),
  );
}
