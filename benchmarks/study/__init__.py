"""The study: is any variant better than plain LoRA once each has its own learning rate?"""
