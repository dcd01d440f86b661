"""``shapes``: rendered videos with exact ground truth, on which quality can be measured.

``scene`` says what is where at which time, ``render`` draws it, ``language`` says sentences that
are true of one object and no other, and sentences that are not.
"""
