"""``python -m flows`` is the command ``pseudolabels``, for launchers such as torchrun."""

from pseudolabels_cli import main

main()
