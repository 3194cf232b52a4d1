"""What is trained on, put together from what there is: splits, mixtures, demonstrations, augmented and made-up rows."""
