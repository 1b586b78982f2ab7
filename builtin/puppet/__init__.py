"""A photograph that sings: one still portrait and its face mesh, performed with exactly known movements.

photograph (picture and mesh, varied by seed) -> head (geometry) -> puppet (drawing) -> show (sung).
controls.py says where a pose puts lips, lids and jaw; light.py reads the light that mouth.py paints in.
"""

from .photograph import PLAIN, Photograph, Variation
from .puppet import Puppet
from .show import PuppetShow

__all__ = ["PLAIN", "Photograph", "Puppet", "PuppetShow", "Variation"]
