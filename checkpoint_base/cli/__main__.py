from checkpoint_base.cli import main

main(prog_name="checkpoints")
