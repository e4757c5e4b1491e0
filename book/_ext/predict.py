"""The directive {predict}: a question with two to four answers, and the results under it folded until one is chosen.

The question is an ordinary admonition that ends in a list, so that every format can show it. The outputs of the code cells that
follow it, up to the next text, are put into a <details>: a plain fold without JavaScript. The paragraph after them, which begins with
the answer in bold, is marked. `book/_assets/predict.js` makes the list buttons, hides that paragraph, and opens both at a choice.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

TITLE = "Predict, then look"
CLOSED, OPEN = "Guess above, then open the result", "The result"


class Fold(nodes.General, nodes.Element):
    """What is folded; ``question`` is the id of the question above it."""


class Predict(SphinxDirective):
    has_content = True

    def run(self) -> list[nodes.Node]:
        number = self.env.temp_data["predict"] = self.env.temp_data.get("predict", 0) + 1
        question = nodes.admonition(classes=["predict"], ids=[f"predict-{number}"])
        self.set_source_info(question)
        question += nodes.title(TITLE, TITLE)
        self.state.nested_parse(self.content, self.content_offset, question)
        answers = question[-1]
        if not isinstance(answers, nodes.bullet_list) or not 2 <= len(answers) <= 4:
            raise self.error("a {predict} asks, and ends in a list of two to four answers")
        answers["classes"].append("predict-answers")
        return [question]


def under(question: nodes.Element) -> tuple[list[nodes.Element], nodes.Node | None]:
    """The outputs of the code cells between a question and the next text, and what that text begins with."""
    outputs, beside = [], question.parent.children
    for node in beside[beside.index(question) + 1 :]:
        if getattr(node, "attributes", {}).get("nb_element") != "cell_code":
            return outputs, node
        outputs += [part for part in node.findall(nodes.container) if part.get("nb_element") == "cell_code_output" and part.children]
    return outputs, None


class FoldResults(SphinxPostTransform):
    default_priority = 500  # outputs have been chosen, and inputs hidden
    formats = ("html",)

    def run(self) -> None:
        for answers in list(self.document.findall(nodes.bullet_list)):
            if "predict-answers" not in answers["classes"]:
                continue
            question = answers.parent
            outputs, text = under(question)
            for output in outputs:
                fold = Fold(question=question["ids"][0])
                fold += output.children
                output.children = []
                output += fold
            first = next((part for part in text or () if part.astext()), None)
            if isinstance(text, nodes.paragraph) and isinstance(first, nodes.strong):
                text["ids"].append(f"{question['ids'][0]}-answer")
                text["classes"].append("predict-answer")


def visit_fold(writer, node: Fold) -> None:
    summary = f'<span class="closed">{CLOSED}</span><span class="open">{OPEN}</span>'
    writer.body.append(f'<details class="predict-fold" data-question="{node["question"]}"><summary>{summary}</summary>\n')


def depart_fold(writer, node: Fold) -> None:
    writer.body.append("</details>\n")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(Fold, html=(visit_fold, depart_fold))
    app.add_directive("predict", Predict)
    app.add_post_transform(FoldResults)
    app.add_css_file("predict.css")
    app.add_js_file("predict.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
