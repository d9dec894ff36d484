"""H5MD files (de Buyl et al. 2014, https://h5md.org): frames of positions, forces and box vectors on disk.

All-atom reference runs, bead datasets and coarse-grained runs are all stored like this, in nm, ps and kJ/mol/nm, and
open in MDAnalysis and other H5MD readers. What H5MD has no place for is JSON text in the dataset `/cgenn/metadata`.
"""

from cgenn.h5md.frames import Frames
from cgenn.h5md.reader import H5MDFile
from cgenn.h5md.writer import H5MDWriter

__all__ = ["Frames", "H5MDFile", "H5MDWriter"]
