"""The paper: Krizhevsky, Sutskever and Hinton, NIPS 2012, on ILSVRC-2012.

    python launch.py --config=configs/alexnet.py --config.data.manual_dir=DIR

DIR holds ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar. The paper reports 40.7 % top-1 and
18.2 % top-5 error with ten views after about 90 epochs, five to six days on two GTX 580; its
authors' logs have 43 % and 19 % or so for the centre view. Nobody has run this configuration to
its end here yet.

    python launch.py --config=configs/alexnet.py:VARIANT

is another row of the paper, or the network of another system (caffe, caffenet, torchvision), see
variants.py; --mode=table shows what each is to give.
"""

from ml_collections import ConfigDict

from configs import variants


def get_config(variant: str = "") -> ConfigDict:
    """Every field there is, with the paper's value, and what the variant changes.

    Raises:
      ValueError: there is no such variant.
    """
    config = ConfigDict()
    config.name = variants.name("alexnet", variant)  # which row of the paper's tables the run belongs to

    config.model = ConfigDict()
    config.model.network = "alexnet"  # or, of one tower: four_layers, that of Figure 1; conv_local, section 3.3's
    config.model.towers = 2  # halves of every layer, 1 or 2
    config.model.kernels = (96, 256, 384, 384, 256)  # of conv1 to conv5, both towers together
    config.model.sixth_convolution = 0  # kernels of conv6, over the last pooling; 0: none
    config.model.first_padding = (0, 3)  # of conv1, pixels before and after the picture, in height and in width
    config.model.padding = (2, 1, 1, 1)  # of conv2 to conv5, pixels
    config.model.units = (4096, 4096)  # of fc6 and fc7, both towers together
    config.model.bottleneck = 0  # linear units between the last hidden layer and the classes; 0: none
    config.model.classes = 0  # outputs; 0: as many as the dataset has
    config.model.removed = ""  # one middle layer, conv2 to conv5, fc6 or fc7, that is left out; '': none
    config.model.cross_connections = True  # False: the towers read each other only at the classes
    config.model.activation = "relu"  # or tanh
    config.model.weight_stddev = 0.01  # of the initial weights
    config.model.first_stddev = 0.0  # of those of conv1; 0: as weight_stddev
    config.model.middle_stddev = 0.0  # of those of conv3 and later convolutions, local3 and local4; 0: as weight_stddev
    config.model.dense_stddev = 0.0  # of those of fc6 and fc7; 0: as weight_stddev
    config.model.hidden_bias = 1.0  # initial bias of conv2, conv4, conv5, conv6, fc6, fc7 (four_layers: conv2, conv3)
    config.model.start = "constants"  # the four above; fan_in: uniform within 1 / sqrt(a unit's inputs), biases too
    config.model.dropout = 0.5  # probability that an output of fc6 or fc7 is zeroed
    config.model.dropout_place = "outputs"  # of fc6 and fc7; or inputs: what these two read
    config.model.dropout_scaling = "test"  # all outputs times 1 - dropout; training: survivors over 1 - dropout
    config.model.lrn = True  # the response normalisation of layers 1 and 2
    config.model.lrn_n = 5  # maps in its window
    config.model.lrn_k = 2.0  # its constant
    config.model.lrn_alpha = 1e-4  # its factor of the sum of squares
    config.model.lrn_alpha_over_n = False  # True: the factor is lrn_alpha / lrn_n, one of the mean of squares
    config.model.lrn_beta = 0.75  # its exponent
    config.model.lrn_across_towers = False  # True: its window reaches over all maps; False: over its own tower's
    config.model.within_map_norm = False  # a second normalisation in layer 2, over 5x5 positions of each map
    config.model.pool_before_activation = False  # True: layer 1 normalises and pools before its activation
    config.model.pool_before_norm = False  # True: layers 1 and 2 pool before they normalise
    config.model.pool_window = 3  # positions in height and in width
    config.model.pool_stride = 2  # positions between two windows
    config.model.pool_rounding = "down"  # of the number of windows; up: the last may hang over the edge
    config.model.pool_ties = "first"  # of equal maxima in a window, which has the gradient; or all, each the whole
    config.model.dtype = "float32"  # of activations: float32 or bfloat16; parameters are float32

    config.data = ConfigDict()
    config.data.name = "imagenet2012"  # folder, synset_tars, idx, digits or any image classification set of TFDS
    config.data.data_dir = ""  # where prepared datasets lie; '': TFDS's own folder in the home
    config.data.manual_dir = ""  # where the tars or the folders of pictures lie; needed once, to prepare
    config.data.prepared_dir = ""  # where the prepared pictures lie; '': in data_dir, by name and size
    config.data.shared = True  # whether the hosts of a cluster share the disk where data lies; False: each has its own
    config.data.train_split = "train"  # a split of the set, slices such as 'train[:90%]' included
    config.data.validation_fraction = 0.1  # of a folder or of tars that have no pictures for validation
    config.data.resize = 256  # pixels of the square's side
    config.data.square = "crop"  # of a picture: its centre; crop_down: the same in torchvision's rounding; squeeze: all
    config.data.crop = 224  # pixels of the network's input
    config.data.mean_rgb = ()  # subtracted from every pixel, RGB from 0 to 255; (): the training set's mean image
    config.data.stddev_rgb = ()  # what is left is divided by these, on 0 to 255; (): by nothing
    config.data.encoding = "jpeg"  # of prepared pictures: jpeg, or raw for six times the disk and five times the speed
    config.data.jpeg_quality = 95  # of prepared pictures, 1 to 100
    config.data.max_pixels = 100_000_000  # of a picture; larger ones are rejected
    config.data.max_rejected = 0.01  # share of pictures that may be rejected; more is an error
    config.data.accept_damaged = False  # True: pictures with lost pixels are taken, as far as they can be decoded
    config.data.colour_profiles = "ignore"  # those that pictures carry; srgb: colours are converted to sRGB by them
    config.data.max_missing = 0.0  # share of an official set's pictures, and of its classes, that may be missing
    config.data.order = "shuffled"  # anew each epoch; fixed: the same order in all
    config.data.short_batch = "drop"  # an epoch's last, of what is left over; keep: a step on as many as there are
    config.data.shuffle_examples = 8192  # shuffled together in memory; files are shuffled on disk

    config.augment = ConfigDict()
    config.augment.crops = True  # random positions in training; False: the centre
    config.augment.offsets_inclusive = False  # True: one more position, the last, in height and in width
    config.augment.reflections = True  # left to right, with probability 1/2
    config.augment.pictures_per_draw = 1  # consecutive pictures that share a crop and reflection
    config.augment.mean = "cropped"  # the part of the mean image that is subtracted: the crop's, or centre
    config.augment.lighting = "eigenvalue"  # scales the lighting on 0..1; or root: its root on 0..255, then / 1.1
    config.augment.lighting_stddev = 0.1  # of the factors of the PCA lighting; 0: none
    config.augment.lighting_until = 0.0  # epochs, whole ones, after which there is no lighting; 0: to the end

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.01  # at the start
    config.optimizer.momentum = 0.9  # share of the velocity kept each step
    config.optimizer.weight_decay = 0.0005  # times rate and weight
    config.optimizer.decay_biases = True  # False: only kernels and dense weights decay
    config.optimizer.decayed = "*"  # layers that decay, with * and ?, by commas

    config.schedule = ConfigDict()
    config.schedule.kind = "plateau"  # constant, steps, plateau or listed
    config.schedule.factor = 0.1  # multiplies the learning rate at each drop
    config.schedule.boundaries = ()  # steps: the epochs of the drops
    config.schedule.drops = 3  # plateau: drops before the plateau that ends training
    config.schedule.patience = 5  # plateau: evaluations without a lower top-1 error (unsaid in the paper)
    config.schedule.rates = ()  # listed: (epoch, 'LAYER/kernel' or 'LAYER/bias' with * and ?, rate); 0 freezes

    config.mesh = ConfigDict()
    config.mesh.data = 0  # slices of the batch; 0: devices divided by mesh.model
    config.mesh.model = 0  # devices that share the towers, 1 or 2; 0: chosen

    config.train = ConfigDict()
    config.train.steps = 0  # updates to make in all; 0: by train.epochs
    config.train.epochs = 90.0  # passes over the training set
    config.train.least_steps = 0  # where the epochs come to fewer, so many, and the schedule's epochs stretch with them
    config.train.most_steps = 0  # where they come to more, so many, and the schedule shrinks; 0: no such bound
    config.train.batch_size = 128  # examples a step, over all devices
    config.train.seed = 0  # of weights, order, crops, lighting and dropout
    config.train.init_from = ""  # the folder of a run whose layers a new run starts from; '': none
    config.train.init_except = ""  # layers that start anew all the same, such as 'fc7,fc8'
    config.train.init_checkpoint = "best"  # of that run: best (lowest validation top-1 error) or newest
    config.train.init_after = ""  # the config that the run has to be of, and to be trained first; '': any, or none
    config.train.log_every = 50  # steps between two reports
    config.train.checkpoint_every = 2000  # steps between two checkpoints within an epoch; 0: none
    config.train.checkpoint_minutes = 10.0  # and the most between two, whatever the steps; 0: no such rule
    config.train.on_nan = "stop"  # at a loss that is no number; rewind: to the last checkpoint, past those batches
    config.train.rewinds = 3  # at most, of a run
    config.train.stall_steps = 2000  # steps without learning that are called a stall; 0: never

    config.evaluate = ConfigDict()
    config.evaluate.split = "validation"  # a split of the set
    config.evaluate.least_steps = 0  # between validations while training, which end an epoch; 0: each does
    config.evaluate.batch_size = 128  # examples at a time, over all devices
    config.evaluate.views = 1  # of each picture; 1: the centre; 10: corners, centre and their reflections
    config.evaluate.checkpoint = "best"  # best (lowest validation top-1 error) or newest

    variants.apply(config, "alexnet", variant)
    config.lock()
    return config
