"""``python -m flows`` is the command ``pseudolabels``, for launchers such as torchrun."""

from pseudolabels import main

main()
