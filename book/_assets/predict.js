// A question's answers become buttons. A choice opens the results under the question, and shows the paragraph that gives the answer;
// it is kept until the page is left, and nowhere else. Who opens a result without a choice sees the paragraph as well.
const opened = [];  // while the page is printed, everything is open
for (const question of document.querySelectorAll(".admonition.predict")) {
  const list = question.querySelector(":scope > ul.predict-answers");
  if (!list) continue;
  const folds = [...document.querySelectorAll(`details.predict-fold[data-question="${question.id}"]`)];
  const answer = document.getElementById(`${question.id}-answer`);
  if (answer) answer.hidden = "until-found";  // a search of the page finds it all the same
  for (const fold of folds) fold.addEventListener("toggle", () => { if (fold.open && answer && !opened.length) answer.hidden = false; });
  const group = document.createElement("div"), said = document.createElement("p");
  group.className = "predict-answers";
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Your prediction");
  said.className = "predict-said";
  said.setAttribute("role", "status");
  const buttons = [...list.children].map((item) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    const words = item.children.length === 1 && item.firstElementChild.matches("p") ? item.firstElementChild : item;
    button.append(...words.childNodes);
    button.addEventListener("click", () => {
      if (group.dataset.chosen) return;
      group.dataset.chosen = "yes";
      for (const other of buttons) other.setAttribute("aria-disabled", "true");
      button.setAttribute("aria-pressed", "true");
      for (const fold of folds) fold.open = true;
      const words = document.createElement("strong");
      words.append(...[...button.childNodes].map((node) => node.cloneNode(true)));
      said.append("You said: ", words, ". The result below is open; the text after it gives the answer.");
      if (answer) answer.hidden = false;
    });
    return button;
  });
  group.append(...buttons);
  list.replaceWith(group, said);
}

addEventListener("beforeprint", () => {
  opened.push(...document.querySelectorAll("details.predict-fold:not([open])"));
  for (const fold of opened) fold.open = true;
});
addEventListener("afterprint", () => {
  for (const fold of opened.splice(0)) fold.open = false;
});
