"""The paper: Krizhevsky, Sutskever and Hinton, NIPS 2012, on ILSVRC-2012.

    python launch.py --config=configs/alexnet.py --config.data.manual_dir=DIR

DIR holds ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar. The paper reports 40.7 % top-1 and
18.2 % top-5 error with ten views, after about 90 epochs, which took five to six days on two GTX 580.
Its authors' logs have about 43 % and 19 % for the centre view. Nobody has trained this
configuration to its end here yet.

    python launch.py --config=configs/alexnet.py:VARIANT

trains another row of the paper, or the network of another system (caffe, caffenet, torchvision).
variants.py lists them, and --mode=table shows their expected errors.
"""

from ml_collections import ConfigDict

from configs import variants


def get_config(variant: str = "") -> ConfigDict:
    """Every field with the paper's value, then the variant's changes.

    Raises:
      ValueError: there is no such variant.
    """
    config = ConfigDict()
    config.name = variants.name("alexnet", variant)  # the row of the paper's tables that a run belongs to

    config.model = ConfigDict()
    config.model.network = "alexnet"  # or four_layers (Figure 1), conv_local (section 3.3); both have one tower
    config.model.towers = 2  # 1 or 2; two towers have half of every layer each
    config.model.kernels = (96, 256, 384, 384, 256)  # in conv1 to conv5, both towers together
    config.model.sixth_convolution = 0  # kernels in conv6, which follows the last pooling; 0: no conv6
    config.model.first_padding = (0, 3)  # zeros before and after conv1's picture, in height and in width, pixels
    config.model.padding = (2, 1, 1, 1)  # zeros on every side of the input of conv2 to conv5, pixels
    config.model.units = (4096, 4096)  # in fc6 and fc7, both towers together
    config.model.bottleneck = 0  # linear units between the last hidden layer and the classes; 0: none
    config.model.classes = 0  # outputs; 0: as many as the dataset has
    config.model.removed = ""  # the middle layer to leave out: conv2 to conv5, fc6 or fc7; '': none
    config.model.cross_connections = True  # False: no tower reads the other's outputs before the classes
    config.model.activation = "relu"  # relu or tanh
    config.model.weight_stddev = 0.01  # standard deviation of the initial weights, Gaussian around 0
    config.model.first_stddev = 0.0  # the same in conv1; 0: weight_stddev
    config.model.middle_stddev = 0.0  # the same in conv3 to conv6, local3 and local4; 0: weight_stddev
    config.model.dense_stddev = 0.0  # the same in fc6 and fc7; 0: weight_stddev
    config.model.hidden_bias = 1.0  # initial bias in conv2, conv4 to conv6, fc6 and fc7 (four_layers: conv2, conv3)
    config.model.start = "constants"  # the five above; fan_in: all uniform within 1 / sqrt(a unit's inputs)
    config.model.dropout = 0.5  # probability that an output of fc6 or fc7 is set to 0 in training
    config.model.dropout_place = "outputs"  # outputs: those of fc6 and fc7; inputs: what fc6 and fc7 read
    config.model.dropout_scaling = "test"  # test: outputs times 1 - dropout; training: survivors over 1 - dropout
    config.model.lrn = True  # whether layers 1 and 2 have local response normalisation
    config.model.lrn_n = 5  # maps in the normalisation's window, an odd number
    config.model.lrn_k = 2.0  # its constant k
    config.model.lrn_alpha = 1e-4  # its alpha, which multiplies the sum of squares
    config.model.lrn_alpha_over_n = False  # True: lrn_alpha / lrn_n multiplies the sum of squares
    config.model.lrn_beta = 0.75  # its exponent beta
    config.model.lrn_across_towers = False  # True: its window reaches into the other tower's maps
    config.model.within_map_norm = False  # True: layer 2 has a second normalisation, over 5x5 positions of each map
    config.model.pool_before_activation = False  # True: layer 1 normalises and pools before its activation
    config.model.pool_before_norm = False  # True: layers 1 and 2 pool before they normalise
    config.model.pool_window = 3  # height and width of a pooling window, positions
    config.model.pool_stride = 2  # distance between two pooling windows, positions
    config.model.pool_rounding = "down"  # rounds the number of windows; up: the last may hang over the edge
    config.model.pool_ties = "first"  # first: the first of equal maxima gets the gradient; all: each gets all of it
    config.model.dtype = "float32"  # type of activations, float32 or bfloat16; parameters are float32

    config.data = ConfigDict()
    config.data.name = "imagenet2012"  # folder, synset_tars, idx, digits, or an image classification set of TFDS
    config.data.data_dir = ""  # folder for prepared datasets; '': TFDS's own folder in the home
    config.data.manual_dir = ""  # folder with the tars or the pictures; needed once, to prepare
    config.data.prepared_dir = ""  # folder for this prepared set; '': in data_dir, by name and size
    config.data.shared = True  # whether the hosts of a cluster share the disk with the data; False: each has a copy
    config.data.train_split = "train"  # the split to train on; slices such as 'train[:90%]' are splits, too
    config.data.validation_fraction = 0.1  # share kept for validation, if a folder or tars have no pictures for it
    config.data.resize = 256  # side of the square that a picture becomes, pixels
    config.data.square = "crop"  # the picture's centre; crop_down: torchvision's rounding; squeeze: the whole picture
    config.data.crop = 224  # side of the network's input, pixels
    config.data.mean_rgb = ()  # RGB from 0 to 255, subtracted from every pixel; (): the training set's mean image is
    config.data.stddev_rgb = ()  # RGB from 0 to 255, divides the pixels after that; (): nothing does
    config.data.encoding = "jpeg"  # of prepared pictures: jpeg; raw: six times the disk, five times the speed
    config.data.jpeg_quality = 95  # of prepared pictures, 1 to 100
    config.data.max_pixels = 100_000_000  # in one picture; a larger picture is rejected
    config.data.max_rejected = 0.01  # share of the pictures that may be rejected; more is an error
    config.data.accept_damaged = False  # True: pictures with lost pixels are kept, as far as they can be decoded
    config.data.colour_profiles = "ignore"  # ignore: they have no effect; srgb: they convert colours to sRGB
    config.data.max_missing = 0.0  # share of an official set's pictures, and of its classes, that may be missing
    config.data.order = "shuffled"  # shuffled: another order in each epoch; fixed: the same in all
    config.data.short_batch = "drop"  # what to do with an epoch's last, incomplete batch: drop it, or keep it as a step
    config.data.shuffle_examples = 8192  # pictures shuffled together in memory; files are shuffled on disk

    config.augment = ConfigDict()
    config.augment.crops = True  # True: crops at random positions in training; False: at the centre
    config.augment.offsets_inclusive = False  # True: the last position in height and in width is drawn, too
    config.augment.reflections = True  # True: mirrored left to right with probability 1/2
    config.augment.pictures_per_draw = 1  # consecutive pictures that share a crop and a reflection
    config.augment.mean = "cropped"  # the part of the mean image to subtract: the part under the crop, or centre
    config.augment.lighting = "eigenvalue"  # the factor of colours in 0 to 1; root: its root, for 0 to 255, then / 1.1
    config.augment.lighting_stddev = 0.1  # standard deviation of the random factors of the PCA lighting; 0: no lighting
    config.augment.lighting_until = 0.0  # whole epochs with lighting; 0: all

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 0.01  # initial learning rate
    config.optimizer.momentum = 0.9  # share of the velocity that a step keeps
    config.optimizer.weight_decay = 0.0005  # a step takes weight_decay x learning rate x weight from each weight
    config.optimizer.decay_biases = True  # False: weights decay, biases do not
    config.optimizer.decayed = "*"  # the layers that decay, separated by commas, with * and ?

    config.schedule = ConfigDict()
    config.schedule.kind = "plateau"  # constant, steps, plateau or listed
    config.schedule.factor = 0.1  # multiplies the learning rate at each drop
    config.schedule.boundaries = ()  # steps: the epochs at which the rate drops
    config.schedule.drops = 3  # plateau: drops before the plateau that ends training
    config.schedule.patience = 5  # plateau: evaluations without a lower top-1 error (the paper does not give it)
    config.schedule.rates = ()  # listed: (epoch, 'LAYER/kernel' or 'LAYER/bias' with * and ?, rate); 0 freezes

    config.mesh = ConfigDict()
    config.mesh.data = 0  # slices of the batch; 0: the number of devices over mesh.model
    config.mesh.model = 0  # devices that share the towers, 1 or 2; 0: the program chooses

    config.train = ConfigDict()
    config.train.steps = 0  # updates in all; 0: train.epochs decides
    config.train.epochs = 90.0  # passes over the training set
    config.train.least_steps = 0  # if the epochs have fewer steps, train so many; the schedule stretches with them
    config.train.most_steps = 0  # if the epochs have more steps, train so many; the schedule shrinks; 0: no limit
    config.train.batch_size = 128  # pictures in a step, all devices together
    config.train.seed = 0  # for weights, order, crops, reflections, lighting and dropout
    config.train.init_from = ""  # folder of a run whose layers a new run starts from; '': none
    config.train.init_except = ""  # layers that start anew all the same, such as 'fc7,fc8'
    config.train.init_checkpoint = "best"  # of that run: best (lowest validation top-1 error) or newest
    config.train.init_after = ""  # the config that has to be trained first, and that run's config; '': any, or none
    config.train.log_every = 50  # steps between two reports
    config.train.checkpoint_every = 2000  # steps between two checkpoints within an epoch; 0: no such rule
    config.train.checkpoint_minutes = 10.0  # minutes between two checkpoints at most; 0: no such rule
    config.train.on_nan = "stop"  # at a loss that is no number; rewind: to the last checkpoint, then past those batches
    config.train.rewinds = 3  # the most rewinds in a run
    config.train.stall_steps = 2000  # steps without learning after which the run is called stalled; 0: never

    config.evaluate = ConfigDict()
    config.evaluate.split = "validation"  # the split to evaluate on
    config.evaluate.least_steps = 0  # fewest steps between two validations, which end an epoch; 0: every epoch has one
    config.evaluate.batch_size = 128  # pictures at a time, all devices together
    config.evaluate.views = 1  # views of each picture; 1: the centre; 10: corners, centre and their reflections
    config.evaluate.checkpoint = "best"  # best (lowest validation top-1 error) or newest

    variants.apply(config, "alexnet", variant)
    config.lock()
    return config
