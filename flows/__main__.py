"""``python -m flows`` is the command ``pseudolabels``, for launchers such as torchrun."""

from flows.commands.main import main

main()
