"""GroPrompt: a student that finds a box for a frozen SAM, taught by boxes (CVPRW 2024)."""
