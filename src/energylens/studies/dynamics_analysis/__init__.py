"""What happened in many trainings, from their histories alone: one analysis for all studies."""
