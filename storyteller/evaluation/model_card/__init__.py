"""Model cards: metrics of many generated stories, compared with the same metrics of real stories."""
