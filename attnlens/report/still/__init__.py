"""Still pictures for papers and slides: SVG, PDF and PNG of the same views that pages and reports draw.

`token_picture`, `matrix_picture`, `map_picture`, `forest_picture` and the others make a `Picture` of a view,
`save` writes it by the ending of the file's name. Vector text, widths in millimetres, the light palette (told apart by
colour-blind eyes, and in order of lightness in grey), no transparency; the same view gives the same bytes.
"""

from attnlens.report.still.cells import difference_picture, matrix_picture, mixing_picture
from attnlens.report.still.forest import forest_picture
from attnlens.report.still.grid import map_picture
from attnlens.report.still.layers import layers_picture
from attnlens.report.still.links import token_picture
from attnlens.report.still.picture import WIDTHS, Picture, width_of
from attnlens.report.still.saving import FORMATS, save, svg_of
from attnlens.report.still.sentences import evidence_picture

__all__ = [
    "FORMATS",
    "WIDTHS",
    "Picture",
    "difference_picture",
    "evidence_picture",
    "forest_picture",
    "layers_picture",
    "map_picture",
    "matrix_picture",
    "mixing_picture",
    "save",
    "svg_of",
    "token_picture",
    "width_of",
]
