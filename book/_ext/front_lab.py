"""The directive {front-lab}: the plane lab, small, with two stored networks. No notebook is needed for it, and no kernel."""

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pagkit import data, lab

NETS = {"cross-entropy": "toy-standard", "aligned gradients": "toy-pag"}
SEED = 3  # of the data that they were trained on
START = (-30.0, -60.0)  # the middle of a mode
BOX = (-95.0, 95.0, -115.0, 115.0)


class FrontLab(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        torch.set_num_threads(1)
        task, nets = data.load("three-modes", seed=SEED), {}
        for name, file in NETS.items():
            relative, path = self.env.relfn2path(f"labs/{file}.safetensors")
            self.env.note_dependency(relative)
            nets[name] = lab.load(path, task)
        look = {"box": BOX, "classes": ("blue", "orange"), "norms": ("l2",), "small": True, "name": "front"}
        made = lab.plane(nets, task.test, settings={"eps": 15, "steps": 40, "step_size": 1, "point": START}, **look)
        return [nodes.raw("", made.html(), format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("front-lab", FrontLab)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
