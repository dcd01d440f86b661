"""GroPrompt: a student that learns from boxes to find a box for a frozen SAM (CVPRW 2024)."""
