"""The real editor in headless Chromium, on a running `Server`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server import Server

SIZE = {"width": 1920, "height": 1080}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
READY_MS = 600_000
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Validation.Workflows": True,
    "Comfy.Minimap.Visible": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,  # texts stay in pictures of large graphs
}


def find_chromium() -> str | None:
    return next((path for name in CHROMIUM if (path := shutil.which(name))), None)


class Editor:
    """`with Editor(server) as editor`: one page of the frontend."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.errors: list[str] = []

    def __enter__(self) -> Editor:
        from playwright.sync_api import sync_playwright

        settings = self.server.base / "user/default/comfy.settings.json"
        settings.write_text(json.dumps(SETTINGS))
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        self.page = self._browser.new_page(viewport=SIZE)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"http://127.0.0.1:{self.server.port}/", timeout=READY_MS)
        self.page.wait_for_function("window.app?.graph != null", timeout=READY_MS)
        self.page.wait_for_timeout(3000)
        return self

    def __exit__(self, *_error: object) -> None:
        self._browser.close()
        self._playwright.stop()

    def from_prompt(self, prompt: dict[str, Any]) -> None:
        """Draw a prompt as a graph, nodes arranged."""
        self.page.evaluate(
            """async prompt => {
                await app.loadApiJson(prompt, "graph")
                await new Promise(done => setTimeout(done, 1500))
                app.graph.arrange(60)
                await new Promise(done => setTimeout(done, 500))
            }""",
            prompt,
        )

    def fold(self, ids: Sequence[str], title: str, widgets: Sequence[tuple[str, str]]) -> None:
        """Convert nodes to a subgraph that shows the `widgets` (node id, widget) of its inside."""
        self.page.evaluate(
            """async ([ids, title, widgets]) => {
                const nodes = ids.map(id => app.graph.getNodeById(id) ?? app.graph.getNodeById(Number(id)))
                const { node, subgraph } = app.graph.convertToSubgraph(new Set(nodes))
                node.title = subgraph.name = title
                subgraph.arrange(60)
                node.properties.proxyWidgets = widgets
                await new Promise(done => setTimeout(done, 500))
            }""",
            [list(ids), title, [list(pair) for pair in widgets]],
        )

    def shrink(self) -> None:
        """Give every node its least size, wide enough for its title."""
        self.page.evaluate(
            """async () => {
                const ctx = app.canvas.ctx
                ctx.font = "14px Inter, sans-serif"
                for (const graph of [app.graph, ...app.graph.subgraphs.values()])
                    for (const n of graph.nodes) {
                        const [width, height] = n.computeSize()
                        const title = ctx.measureText(n.getTitle()).width + 70 // and its signs
                        n.setSize([Math.ceil(Math.max(width, title)), height])
                    }
                await new Promise(done => setTimeout(done, 500))
            }"""
        )

    def add_note(self, text: str, width: float) -> None:
        """A note as high as its text needs."""
        self.page.evaluate(
            """async ([text, width]) => {
                const note = LiteGraph.createNode("MarkdownNote")
                note.title = "Read me"
                app.graph.add(note)
                note.widgets[0].value = text
                note.setSize([width, 100])
                note.pos = [0, 0]
                app.canvas.ds.scale = 1
                app.canvas.ds.offset.splice?.(0, 2, 100, 100)
                app.canvas.setDirty(true, true)
                await new Promise(done => setTimeout(done, 1000))
                const box = note.widgets[0].element.querySelector(".tiptap") ?? note.widgets[0].element
                note.setSize([width, box.scrollHeight + 40])
                await new Promise(done => setTimeout(done, 500))
            }""",
            [text, width],
        )

    def file(self) -> dict[str, Any]:
        """The file that saving the open graph would write."""
        return json.loads(self.page.evaluate("() => JSON.stringify(app.graph.serialize())"))

    def open(self, workflow: dict[str, Any]) -> dict[str, Any]:
        """Open a file; the prompt that pressing Run would send."""
        return self.page.evaluate(
            """async workflow => {
                await app.loadGraphData(workflow)
                await new Promise(done => setTimeout(done, 1500))
                return (await app.graphToPrompt()).output
            }""",
            workflow,
        )

    def alerts(self) -> list[str]:
        """Texts of the messages that the editor shows."""
        return self.page.locator(".p-toast-message, [role=alert], [role=alertdialog]").all_inner_texts()

    def unknown_nodes(self) -> list[str]:
        """Kinds of nodes of the open graph that the editor does not know."""
        return self.page.evaluate(
            "() => app.graph.nodes.filter(n => !LiteGraph.registered_node_types[n.type]).map(n => n.type)"
        )

    def enter_folded(self) -> None:
        """Show the inside of the open graph's folded node."""
        self.page.evaluate(
            """async () => {
                const node = app.graph.nodes.find(n => n.isSubgraphNode())
                app.canvas.openSubgraph(node.subgraph, node)
                await new Promise(done => setTimeout(done, 1500))
            }"""
        )

    def covered(self) -> list[list[str]]:
        """(type of wire, title of node) where a drawn wire passes a node not its own nearer than 6."""
        self._fit(1780, 900)  # what is out of sight is not drawn
        return self.page.evaluate(
            """() => {
                const ctx = document.createElement("canvas").getContext("2d"), graph = app.canvas.graph
                ctx.lineWidth = 12
                const touches = (path, [x, y, w, h]) => {
                    for (let v = y; v <= y + h; v += 8)
                        for (let u = x; u <= x + w; u += 8)
                            if (ctx.isPointInStroke(path, u, v)) return true
                    return false
                }
                const found = []
                for (const link of graph.links.values()) {
                    const paths = [link.path]
                    for (let id = link.parentId; id; id = graph.reroutes.get(id).parentId)
                        paths.push(graph.reroutes.get(id).path)
                    const others = graph.nodes.filter(n => n.id != link.origin_id && n.id != link.target_id)
                    const hit = others.filter(n => paths.some(path => touches(path, n.boundingRect)))
                    found.push(...hit.map(n => [link.type, n.title]))
                }
                return found
            }"""
        )

    def note(self) -> dict[str, Any]:
        """Where the window shows the note, the height of its smallest letters, whether its text is cut."""
        return self.page.evaluate(
            """() => {
                const element = document.querySelector(".comfy-markdown")
                const { left, right, top, bottom, height } = element.getBoundingClientRect()
                const texts = [...element.querySelectorAll("h1, h2, h3, p, li, td")].filter(t => t.innerText)
                const sizes = texts.map(t => parseFloat(getComputedStyle(t).fontSize))
                return {
                    left, right, top, bottom,
                    letters: Math.min(...sizes) * height / element.offsetHeight,
                    cut: Math.max(...texts.map(t => t.getBoundingClientRect().bottom)) > bottom,
                }
            }"""
        )

    def picture(self, path: Path) -> None:
        """A JPEG of the editor with the whole graph."""
        self._fit(1780, 900)
        self.page.screenshot(path=str(path), type="jpeg", quality=80)

    def cutting(self, path: Path) -> None:
        """A JPEG of the graph alone."""
        box = self._fit(1300, 640)
        self.page.screenshot(path=str(path), type="jpeg", quality=75, clip=box)

    def _fit(self, width: int, height: int) -> dict[str, float]:
        """Show the whole graph in the middle; its box in pixels of the page."""
        box = self.page.evaluate(
            """([width, height]) => {
                const box = [Infinity, Infinity, -Infinity, -Infinity]
                for (const n of [...app.graph.nodes, ...app.graph.groups]) {
                    const title = n.computeSize ? 40 : 0
                    box[0] = Math.min(box[0], n.pos[0]); box[1] = Math.min(box[1], n.pos[1] - title)
                    box[2] = Math.max(box[2], n.pos[0] + n.size[0])
                    box[3] = Math.max(box[3], n.pos[1] + n.size[1])
                }
                const ds = app.canvas.ds, w = box[2] - box[0], h = box[3] - box[1]
                ds.scale = Math.min(1.2, width / w, height / h)
                ds.offset[0] = -box[0] + (1920 / ds.scale - w) / 2
                ds.offset[1] = -box[1] + (1080 / ds.scale - h) / 2
                app.canvas.setDirty(true, true)
                return [w * ds.scale, h * ds.scale]
            }""",
            [width, height],
        )
        self.page.wait_for_timeout(1200)
        w, h = (side + 40 for side in box)
        return {"x": (1920 - w) / 2, "y": (1080 - h) / 2, "width": w, "height": h}
